from emc2_lite.course.processes import torchrun
import resource,time
t=time.time()
a=resource.getrusage(resource.RUSAGE_CHILDREN)
torchrun("/tmp/c9/hello.py", 2)
b=resource.getrusage(resource.RUSAGE_CHILDREN)
print('hello children cpu', b.ru_utime-a.ru_utime, b.ru_stime-a.ru_stime, time.time()-t)
