"""One thread a process; long files first; papermill executes each chapter once, and nbval compares its outputs."""

import os
from pathlib import Path

import torch

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

EXECUTED = Path(__file__).parents[1] / "build" / "course"
# Files that take longer than 3 seconds, the longest first; `make check` leaves them out.
SLOW = (
    "test_jupyterlab.py",
    "test_book.py",
    "test_parallel_runs.py",
    "test_drop_ins.py",
    "test_parallel.py",
    "09_scaling_out.ipynb",
    "test_course_processes.py",
    "test_two_towers.py",
    "test_loggers.py",
    "test_tooling_stops.py",
    "test_tooling_train.py",
    "test_tooling_experiment.py",
    "08_did_it_learn.ipynb",
    "05_emc2.ipynb",
    "06_the_gradient_laboratory.ipynb",
    "02_the_global_loss.ipynb",
    "test_run_images.py",
    "test_emc2_mean.py",
    "test_run_places.py",
    "03_averages_and_caches.ipynb",
    "test_tooling_packaging.py",
    "07_the_training_run.ipynb",
    "00_start_here.ipynb",
    "01_contrastive_learning.ipynb",
    "test_tooling_address.py",
    "test_tooling_wheel.py",
    "test_global_loss_memory.py",
    "test_sweep_cells.py",
    "test_records_kept.py",
    "04_metropolis_hastings.ipynb",
    "test_course_figures.py",
    "test_checks.py",
    "test_splitmix_cache.py",
    "test_bench.py",
    "test_collapse.py",
    "test_devices_runs.py",
    "test_tooling_command_line.py",
    "test_tooling_runner.py",
    "test_losses_check_encode.py",
    "test_course_time_limit.py",
    "test_losses_compiled.py",
    "test_sampling_triton.py",
    "test_laboratory_gradients.py",
    "test_laboratory_published.py",
    "test_progress.py",
    "test_devices.py",
    "test_tooling_doctor.py",
    "test_tooling_gpu.py",
    "test_config_fuzz.py",
    "test_resume.py",
    "test_run.py",
    "test_vision.py",
    "test_encoders.py",
    "test_vision_stl10.py",
    "test_emc2_remembered.py",
    "test_emc2_multiproposal.py",
    "test_laboratory_price.py",
)


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="leave out the files that take longer than 3 seconds")


def pytest_ignore_collect(collection_path, config):
    return True if config.getoption("--fast") and collection_path.name in SLOW else None


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.path.name, len(SLOW)))


def pytest_configure(config):
    if config.getoption("nbval_lax", False):
        from nbval.plugin import IPyNbCell, IPyNbFile

        IPyNbFile.setup = execute_chapter
        IPyNbCell.runtest = compare_cell


def execute_chapter(chapter) -> None:
    """Execute a notebook of nbval, an IPyNbFile, with papermill; the executed copy stays in build/course."""
    import nbformat

    from emc2_lite.course.runner import execute

    copy = EXECUTED / chapter.path.name
    result = execute(chapter.path, copy)
    chapter.executed = [cell for cell in nbformat.read(copy, 4).cells if cell.cell_type == "code"]
    chapter.error = result.error
    chapter.setup_sanitize_files()


def compare_cell(cell) -> None:
    """Fail if a cell, an IPyNbCell, raised or was not reached, or if its checked output differs from the stored one."""
    from nbval.plugin import coalesce_streams

    executed = cell.parent.executed[cell.cell_num]
    for output in executed.outputs:
        if output.output_type == "error":
            cell.raise_cell_error("The cell raised an exception.", "\n".join(output.traceback))
    last = cell.cell_num == len(cell.parent.executed) - 1
    if executed.execution_count is None or (last and cell.parent.error):
        cell.raise_cell_error(cell.parent.error or "The cell was not executed.")
    stored, found = coalesce_streams(cell.cell.outputs), coalesce_streams(executed.outputs)
    if cell.options["check"] and not cell.compare_outputs(found, stored):
        cell.raise_cell_error("The outputs differ from those stored.", "\n".join(cell.comparison_traceback))
