"""Configurations: read, refused, changed, compared."""

import json
import re

import pytest
from runs import SMALL, small

from emc2_lite.training import Config, changed, from_dict, read_config, shipped_configs
from emc2_lite.training.configuring import differences

COLOUR = {"data": {"name": "cifar10"}, "views": {"size": 32}, "encoder": {"name": "resnet18"}}


def test_the_shipped_configurations_can_be_read():
    assert shipped_configs() == ["cifar10", "cifar10_small", "digits", "imagenet100", "stl10"]
    for name in shipped_configs():
        assert read_config(name).data.name == name.removesuffix("_small")


def test_stl10_and_imagenet100_have_the_papers_settings():
    stl10, imagenet = read_config("stl10"), read_config("imagenet100")
    assert (stl10.encoder.name, stl10.encoder.norm, stl10.encoder.dim, stl10.encoder.hidden) == (
        "resnet18",
        "none",
        512,
        None,
    )
    assert (stl10.optimiser.name, stl10.optimiser.learning_rate, stl10.optimiser.weight_decay) == ("adam", 1e-4, 1e-4)
    assert (stl10.training.batch_size, stl10.training.epochs, stl10.optimiser.warmup_epochs) == (32, 100, 10)
    views = stl10.views
    assert (views.size, views.brightness, views.contrast, views.saturation, views.hue) == (96, 0.8, 0.8, 0.8, 0.2)
    assert (views.jitter, views.grayscale, views.sigma, views.blur) == (0.8, 0.2, (0.1, 2.0), 1.0)
    assert (imagenet.encoder.name, imagenet.encoder.hidden, imagenet.encoder.dim) == ("resnet50", 2048, 128)
    assert (imagenet.optimiser.name, imagenet.optimiser.learning_rate, imagenet.optimiser.weight_decay) == (
        "lars",
        1.2,
        1e-6,
    )
    assert (imagenet.optimiser.momentum, imagenet.training.batch_size, imagenet.training.epochs) == (0.9, 256, 800)
    for config in (stl10, imagenet):
        assert (config.loss.method, config.loss.settings) == ("EMC2", {"burn_in": 0.5})
        assert 1 / config.loss.temperature == pytest.approx(14.28, abs=0.01)


def test_a_missing_value_takes_its_default():
    assert from_dict({}) == Config()
    assert from_dict({"training": {"epochs": 7}}).training.batch_size == Config().training.batch_size


@pytest.mark.parametrize(
    "config", [*map(read_config, ["cifar10", "cifar10_small", "digits", "imagenet100", "stl10"]), small("SogCLR")]
)
def test_a_configuration_survives_json(config):
    assert from_dict(json.loads(json.dumps(config.as_dict()))) == config
    assert differences(config, from_dict(json.loads(json.dumps(config.as_dict())))) == []


def test_whole_numbers_and_lists_are_converted():
    config = from_dict(COLOUR | {"loss": {"temperature": 1}, "views": {"size": 32, "scale": [1, 1]}})
    assert (config.loss.temperature, type(config.loss.temperature)) == (1.0, float)
    assert config.views.scale == (1.0, 1.0)


REFUSALS = {
    "There is no section [optimizer]: use data, encoder, loss, optimiser, training, views.": {"optimizer": {}},
    "training is 5: it is a section, [training], with keys in it.": {"training": 5},
    "[training] has no 'epoch': it has epochs, budget, batch_size,": {"training": {"epoch": 3}},
    "training.epochs is 'three': it must be a whole number of 1 or more.": {"training": {"epochs": "three"}},
    "training.epochs is 2.5: it must be a whole number of 1 or more.": {"training": {"epochs": 2.5}},
    "training.epochs is True: it must be a whole number of 1 or more.": {"training": {"epochs": True}},
    "training.channels_last is 1: it must be true or false.": {"training": {"channels_last": 1}},
    "optimiser.learning_rate is '1e-3': it must be a number above 0.": {"optimiser": {"learning_rate": "1e-3"}},
    "data.name is 5: use one of digits, cifar10, stl10, imagenet100, folder.": {"data": {"name": 5}},
    "training.epochs is 0: it must be a whole number of 1 or more.": {"training": {"epochs": 0}},
    "training.batch_size is 1: it must be a whole number of 2 or more.": {"training": {"batch_size": 1}},
    "training.checkpoint_seconds is -1: it must be a number of 0 or more.": {"training": {"checkpoint_seconds": -1}},
    "optimiser.learning_rate is 0: it must be a number above 0.": {"optimiser": {"learning_rate": 0}},
    "optimiser.warmup_epochs is 21.0, of 20 epochs in all": {"optimiser": {"warmup_epochs": 21}},
    "loss.method is 'emc2': use one of NT-Xent, DCL, SogCLR, cache, EMC2.": {"loss": {"method": "emc2"}},
    "training.precision is 'half': use one of auto, float32,": {"training": {"precision": "half"}},
    "training.device is 'tpu': use one of auto, cpu, cuda.": {"training": {"device": "tpu"}},
    "data.name is 'cifar10' and encoder.name 'digits'": {"data": {"name": "cifar10"}, "views": {"size": 32}},
    "Digits have views of their own: leave the section [views] out.": {"views": {"size": 8}},
    "The section [views] is missing: cifar10 needs at least its size": {
        "data": {"name": "cifar10"},
        "encoder": {"name": "resnet18"},
    },
    "[views] lacks size.": COLOUR | {"views": {"blur": 0.0}},
    "[views] scale is [0.1]: it must be a list of 2 values.": COLOUR | {"views": {"size": 32, "scale": [0.1]}},
    "loss.temperature is -1: it must be a number above 0.": {"loss": {"temperature": -1}},
    "There is no setting loss.burn_in: use none.": {"loss": {"method": "NT-Xent", "burn_in": 0.5}},
    "loss.burn_in is 1.5: it must be a number from 0, and below 1.": {"loss": {"burn_in": 1.5}},
}


@pytest.mark.parametrize(("sentence", "sections"), REFUSALS.items(), ids=REFUSALS)
def test_a_bad_configuration_is_refused_in_a_sentence(sentence, sections):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        from_dict(sections)


def test_a_file_is_read_and_a_refusal_names_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[data]\nname = "digits"\n[training]\nepochs = 2\n')
    assert read_config(path).training.epochs == 2
    path.write_text("[training]\nepochs = 0\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}: training.epochs is 0")):
        read_config(path)
    path.write_text("[training\n")
    with pytest.raises(ValueError, match=re.escape(f"{path} is no TOML: ")):
        read_config(path)
    with pytest.raises(
        FileNotFoundError, match=r"There is no configuration nothing: name a file that ends in .toml, or"
    ):
        read_config("nothing")
    with pytest.raises(FileNotFoundError, match="or one of cifar10, cifar10_small, digits, imagenet100"):
        read_config(tmp_path / "none.toml")


def test_values_are_changed_by_name():
    config = changed(read_config("stl10"), **{"training.batch_size": 64, "loss.burn_in": 0.25, "data.samples": 500})
    assert (config.training.batch_size, config.loss.settings, config.data.samples) == (64, {"burn_in": 0.25}, 500)
    assert config.views == read_config("stl10").views
    for name in ("batch_size", "training.", ".epochs"):
        with pytest.raises(ValueError, match=r"write section.key, such as training.batch_size"):
            changed(config, **{name: 1})


def test_a_named_value_that_nothing_reads_is_refused_even_as_the_default():
    sentence = "loss.reencode is 1.0, and nothing reads it where loss.held is 'stale': leave it out."
    with pytest.raises(ValueError, match=re.escape(sentence)):
        changed(Config(), **{"loss.held": "stale", "loss.reencode": 1.0})
    assert from_dict({"loss": {"held": "stale", "reencode": 1.0}}).loss.settings["reencode"] == 1


def test_another_method_drops_the_settings_of_the_old_one():
    config = changed(read_config("digits"), **{"loss.method": "SogCLR", "loss.gamma": 0.5})
    assert (config.loss.method, config.loss.temperature, config.loss.settings) == ("SogCLR", 0.2, {"gamma": 0.5})
    assert changed(read_config("digits"), **{"loss.method": "EMC2"}).loss.settings == {"burn_in": 0.5}


def test_differences_are_in_the_computation_not_in_places():
    old = from_dict(SMALL)
    free = {"training.device": "auto", "training.checkpoint_seconds": 7}
    assert differences(old, changed(old, **free)) == []
    new = changed(old, **{"training.batch_size": 4, "loss.burn_in": 0.25, "optimiser.clip": 1.0})
    assert sorted(differences(old, new)) == [
        "loss.burn_in was None and is 0.25",
        "optimiser.clip was None and is 1.0",
        "training.batch_size was 8 and is 4",
    ]
