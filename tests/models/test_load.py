"""Loading, freezing, adapters: what trains is what was named, and what does not fit is refused in one line."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.models import tiny
from vlmend.cli import main
from vlmend.config import LoraSettings, ModelConfig
from vlmend.errors import ModelError
from vlmend.models import load as loading
from vlmend.models.parts import owner
from vlmend.types import Example


@pytest.fixture(scope="session", params=["llava", "qwen2_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("llava", tmp_path_factory.mktemp("base"))


def logits(model: torch.nn.Module, codec: object, examples: list[Example]) -> torch.Tensor:
    with torch.no_grad():
        return model(**codec.encode_prompts(examples).inputs).logits  # type: ignore[attr-defined]


def shaken(loaded: loading.Loaded) -> loading.Loaded:
    """Adapters start at zero effect: give them some."""
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return loaded


@pytest.mark.parametrize("named", [("projector",), ("language_model", "projector"), ("vision_tower",)])
def test_full_tuning_opens_exactly_what_is_named(folder: Path, named: tuple[str, ...]) -> None:
    config = ModelConfig.model_validate({"name": str(folder), "tune": "full", "train": named})
    loaded = loading.load(config, for_training=True)
    for name, parameter in loaded.model.named_parameters():
        assert parameter.requires_grad == (owner(name) in named)
    assert set(loaded.trainable.trained) == set(named)


def test_adapter_and_projector_survive_a_round_trip_through_plain_peft(
    folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    config = ModelConfig.model_validate({"name": str(folder), "train": ["language_model", "projector"]})
    tuned = shaken(loading.load(config, for_training=True))
    tuned.model.eval()
    expected = logits(tuned.model, tuned.codec, examples)
    loading.save(tuned, tmp_path)

    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(folder), tmp_path).eval()
    torch.testing.assert_close(logits(plain, tuned.codec, examples), expected)
    ours = loading.load(ModelConfig.from_spec(f"{folder}+{tmp_path}"))
    torch.testing.assert_close(logits(ours.model, ours.codec, examples), expected, atol=1e-5, rtol=1e-4)
    base = loading.load(ModelConfig.from_spec(str(folder)))
    assert not torch.allclose(logits(base.model, base.codec, examples), expected, atol=1e-3)
    assert base.fingerprint != ours.fingerprint
    AutoProcessor.from_pretrained(tmp_path)


def test_full_model_survives_a_round_trip_through_plain_transformers(
    folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    config = ModelConfig.model_validate({"name": str(folder), "tune": "full"})
    tuned = shaken(loading.load(config, for_training=True))
    tuned.model.eval()
    loading.save(tuned, tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(plain, tuned.codec, examples), logits(tuned.model, tuned.codec, examples))


def test_the_fingerprint_follows_the_weights(llava_folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(llava_folder, tmp_path / "copy")
    one = loading.load(ModelConfig(name=str(llava_folder))).fingerprint
    assert one == loading.load(ModelConfig(name=str(copy))).fingerprint
    weights = load_file(copy / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert one != loading.load(ModelConfig(name=str(copy))).fingerprint


def test_adapter_of_another_model_is_refused(llava_folder: Path, tmp_path: Path) -> None:
    other = tiny.save("qwen2_vl", tmp_path / "qwen")
    tuned = loading.load(ModelConfig(name=str(other), lora=LoraSettings(r=2)), for_training=True)
    loading.save(tuned, tmp_path / "adapter")
    for note in (True, False):  # with our note about its base, and as any other tool would have saved it
        if not note:
            (tmp_path / "adapter" / loading.BASE_FILE).unlink()
        with pytest.raises(ModelError, match="does not fit"):
            loading.load(ModelConfig.from_spec(f"{llava_folder}+{tmp_path / 'adapter'}"))


def test_adapter_of_a_twin_with_other_weights_is_refused(llava_folder: Path, tmp_path: Path) -> None:
    twin = loading.load(ModelConfig.model_validate({"name": str(llava_folder), "tune": "full"}), for_training=True)
    loading.save(shaken(twin), tmp_path / "twin")
    loading.save(loading.load(ModelConfig(name=str(llava_folder)), for_training=True), tmp_path / "adapter")
    with pytest.raises(ModelError, match="tuned on other weights"):
        loading.load(ModelConfig.from_spec(f"{tmp_path / 'twin'}+{tmp_path / 'adapter'}"))


def test_adapter_that_lost_weights_is_refused(llava_folder: Path, tmp_path: Path) -> None:
    loading.save(loading.load(ModelConfig(name=str(llava_folder)), for_training=True), tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights.pop(min(weights))
    save_file(weights, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="1 weights differ"):
        loading.load(ModelConfig.from_spec(f"{llava_folder}+{tmp_path}"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrold", "no model 'wrold'"),
        ("./nowhere", "no model './nowhere'"),
        ("{text}", "gpt2 model, and transformers has no class for it that takes pictures and text"),
        ("{phi}", "phi4_multimodal model, and transformers has no class"),
        ("{internvl}", "such as OpenGVLab/InternVL3-8B-hf; code from its own repository runs only with trust_remote"),
        ("{empty}", "has no config.json"),
        ("{broken}", "does not load"),
        ("{base}+./nowhere", "does not exist"),
        ("{base}+{empty}", "has no adapter_config.json"),
    ],
)
def test_bad_models_are_one_line(llava_folder: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    for folder, config in {
        "text": {"model_type": "gpt2"},
        "phi": {"model_type": "phi4_multimodal"},
        "internvl": {"model_type": "internvl_chat", "auto_map": {"AutoConfig": "code.Config"}},
        "broken": {"model_type": "llava"},
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
    places = {key: tmp_path / key for key in ("text", "phi", "internvl", "empty", "broken")} | {"base": llava_folder}
    with pytest.raises(ModelError, match=message) as caught:
        loading.load(ModelConfig.from_spec(name.format_map(places)))
    assert "\n" not in str(caught.value)


def test_quantized_weights_cannot_be_tuned_in_full() -> None:
    config = ModelConfig.model_validate({"name": "world", "tune": "full", "quantization": "4bit"})
    with pytest.raises(ModelError, match="use tune: lora"):
        loading._prepare(torch.nn.Linear(1, 1), config)  # pyright: ignore[reportPrivateUsage]


def test_code_of_others_is_never_run_in_silence(llava_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loading.load(ModelConfig(name=str(llava_folder)))
    assert "trust_remote_code" not in capsys.readouterr().err
    loading.load(ModelConfig.from_spec(f"{llava_folder}?trust_remote_code=true"))
    assert f"{llava_folder} may run code from its own repository" in capsys.readouterr().err


OWN = """
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

class OwnConfig(LlavaConfig):
    model_type = "own_llava"

class OwnModel(LlavaForConditionalGeneration):
    config_class = OwnConfig

class Blind(PreTrainedModel):
    config_class = OwnConfig
    def forward(self, input_ids): ...
"""


def _own(llava_folder: Path, folder: Path, declared: dict[str, str], kind: str = "own_llava") -> Path:
    """A repository with code of its own, which declares these classes."""
    shutil.copytree(llava_folder, folder)
    (folder / "own.py").write_text(OWN)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": {"AutoConfig": "own.OwnConfig", **declared}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "name", ["AutoModelForImageTextToText", "AutoModelForVision2Seq", "AutoModelForCausalLM", "AutoModel"]
)
def test_a_class_of_the_repositorys_own_is_found_whatever_it_is_declared_as(
    llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = _own(llava_folder, tmp_path / name, {name: "own.OwnModel"})
    found = loading._kind(  # pyright: ignore[reportPrivateUsage]
        ModelConfig.from_spec(f"{folder}?trust_remote_code=true"), str(folder)
    )
    assert found.__name__ in ("OwnModel", "AutoModelForImageTextToText")


@pytest.mark.parametrize(
    ("declared", "kind", "said"),
    [
        ({}, "own_llava", "no class that takes pictures and text .*declares no model"),
        ({"AutoModelForCausalLM": "own.Blind"}, "own_llava", "it declares AutoModelForCausalLM.*openai:NAME@URL"),
        ({"AutoModel": "own.Blind"}, "internvl_chat", "declares AutoModel; use a checkpoint .*InternVL3-8B-hf"),
    ],
)
def test_code_that_takes_no_pictures_is_one_line(
    llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: dict[str, str], kind: str, said: str
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = _own(llava_folder, tmp_path / "own", declared, kind)
    with pytest.raises(ModelError, match=said) as caught:
        loading.load(ModelConfig.from_spec(f"{folder}?trust_remote_code=true"))
    assert "\n" not in str(caught.value)
    assert "class '" not in str(caught.value)


def test_an_adapter_asked_with_other_words_than_it_was_tuned_on_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny.save("llava_v15", tmp_path / "base")
    coded = ModelConfig.from_spec(f"{base}?as_coded=true")
    loading.save(loading.load(coded, for_training=True), tmp_path / "adapter")
    loading.load(coded.model_copy(update={"adapter": str(tmp_path / "adapter")}))
    assert not capsys.readouterr().err
    loading.load(ModelConfig.from_spec(f"{base}+{tmp_path / 'adapter'}"))
    assert "then {'as_coded': True}, now {'as_coded': False}" in capsys.readouterr().err


def an_adapter(base: Path, out: Path) -> Path:
    loading.save(shaken(loading.load(ModelConfig(name=str(base)), for_training=True)), out)
    return out


def test_a_fingerprint_is_of_what_is_meant_not_of_how_peft_wrote_it(llava_folder: Path, tmp_path: Path) -> None:
    adapter = an_adapter(llava_folder, tmp_path / "adapter")
    config = ModelConfig(name=str(llava_folder), adapter=str(adapter))
    before = loading.load(config).fingerprint
    path = adapter / "adapter_config.json"
    written = json.loads(path.read_text())
    assert len(written["target_modules"]) > 1
    elsewhere = {
        **dict(reversed(written.items())),
        "target_modules": written["target_modules"][::-1],
        "base_model_name_or_path": "moved/elsewhere",
        "peft_version": "0.0",
    }
    path.write_text(json.dumps(elsewhere))
    assert loading.load(config).fingerprint == before
    path.write_text(json.dumps({**written, "lora_alpha": written["lora_alpha"] * 2}))
    assert loading.load(config).fingerprint != before


@pytest.mark.parametrize("damage", ["cut", "pickled", "empty", "no header"])
@pytest.mark.parametrize("what", ["base", "adapter"])
def test_weights_that_are_no_weights_are_one_line(llava_folder: Path, tmp_path: Path, what: str, damage: str) -> None:
    base = shutil.copytree(llava_folder, tmp_path / "base")
    adapter = an_adapter(llava_folder, tmp_path / "adapter")
    file = base / "model.safetensors" if what == "base" else adapter / "adapter_model.safetensors"
    content = file.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "pickled": pickle.dumps({"a": 1}), "empty": b""}
    file.write_bytes(damaged.get(damage, b"\xff" * 100))
    with pytest.raises(ModelError) as caught:
        loading.load(ModelConfig(name=str(base), adapter=str(adapter)))
    assert str(base if what == "base" else adapter) in str(caught.value)
    assert "\n" not in str(caught.value)


# Adapters of others


def foreign(adapter: Path, named: object) -> Path:
    """As peft alone would have written it, on this base."""
    (adapter / "vlmend_base.json").unlink(missing_ok=True)
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": named}))
    return adapter


def test_an_adapter_that_names_another_base_is_told_so(
    llava_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """Once, with both names, and kept for the manifest; the answers are the adapter's all the same."""
    adapter = an_adapter(llava_folder, tmp_path / "adapter")
    config = ModelConfig(name=str(llava_folder), adapter=str(adapter))
    ours = loading.load(config)
    capsys.readouterr()
    foreign(adapter, "someone/another-model")
    recwarn.clear()
    found = loading.load(config)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"adapter {adapter} names someone/another-model as its base and is put on {llava_folder}" in said
    assert found.notes == (said.removeprefix("vlmend: ").strip(),)
    assert (found.fingerprint, ours.notes) == (ours.fingerprint, ())
    assert not [w for w in recwarn if "someone/another-model" in str(w.message)]  # nobody looks for it in the network


def test_the_manifest_keeps_what_was_said_of_an_adapter(llava_folder: Path, tmp_path: Path) -> None:
    adapter = foreign(an_adapter(llava_folder, tmp_path / "adapter"), "someone/another-model")
    model = f"{llava_folder}+{adapter}"
    words = ["--suite", "world", "--limit", "1", "--max-new-tokens", "2", "--out", str(tmp_path / "run")]
    assert main(["generate", "--model", model, "--device", "cpu", *words]) == 0
    [note] = json.loads((tmp_path / "run" / "manifest.json").read_text())["notes"]
    assert f"names someone/another-model as its base and is put on {llava_folder}" in note


def test_an_adapter_on_the_base_it_names_is_not(
    llava_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By path, through a link, by another folder of the same weights, from the hub's cache, or where it names none."""
    adapter = an_adapter(llava_folder, tmp_path / "adapter")
    copy = shutil.copytree(llava_folder, tmp_path / "copy")
    link = tmp_path / "link"
    link.symlink_to(llava_folder)
    cached = tmp_path / "models--some--base" / "snapshots" / "0"
    shutil.copytree(llava_folder, cached)
    monkeypatch.chdir(tmp_path)
    pairs = [
        (llava_folder, str(llava_folder)), (link, str(llava_folder)), (llava_folder, str(link)), (copy, "copy"),
        (llava_folder, str(copy)), (cached, "some/base"), (llava_folder, None), (llava_folder, ""),
    ]  # fmt: skip
    for base, named in pairs:
        capsys.readouterr()
        assert loading.load(ModelConfig(name=str(base), adapter=str(foreign(adapter, named)))).notes == ()
        assert capsys.readouterr().err == ""


def test_a_folder_of_other_weights_that_an_adapter_names_is_another_base(llava_folder: Path, tmp_path: Path) -> None:
    adapter = an_adapter(llava_folder, tmp_path / "adapter")
    other = shutil.copytree(llava_folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights = {name: weight + 1 for name, weight in weights.items()}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    [note] = loading.load(ModelConfig(name=str(llava_folder), adapter=str(foreign(adapter, str(other))))).notes
    assert str(other) in note
    with pytest.raises(ModelError, match="does not fit"):  # what proves it wrong is still an error
        loading.load(ModelConfig(name=str(other), adapter=str(an_adapter(llava_folder, tmp_path / "ours"))))


@pytest.mark.parametrize("name", ["meta", "cuda:77", "nothing", "xla"])
def test_a_device_that_is_not_there_is_one_line(llava_folder: Path, name: str) -> None:
    with pytest.raises(ModelError, match="device") as caught:
        loading.load(ModelConfig(name=str(llava_folder), device=name))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_weights_that_the_files_lack_are_not_made_up(llava_folder: Path, tmp_path: Path) -> None:
    base = shutil.copytree(llava_folder, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    gone = next(name for name in weights if "layers.0" in name and name.endswith("q_proj.weight"))
    save_file({k: v for k, v in weights.items() if k != gone}, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of its weights, such as .*q_proj") as caught:
        loading.load(ModelConfig(name=str(base)))
    assert "\n" not in str(caught.value)
