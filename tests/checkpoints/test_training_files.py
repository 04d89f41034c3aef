"""Files as training code leaves them: the weights or, when asked for, their averages, and what was left aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pixelsnail_infer.checkpoints import CheckpointOptions, LoadedCheckpoint, load_checkpoint
from pixelsnail_infer.checkpoints.fitting import load_into
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig

from . import training_files as files

Build = Callable[[PriorConfig], Prior]
VQVAE = VqVaeConfig(shape=(32, 48), levels=(11, 13), channel=6, n_res_block=2, n_res_channel=3, embed_dim=4)
Write = Callable[[object], Path]
State = dict[str, Tensor]


@pytest.fixture
def state(tiny: PriorConfig, build: Build) -> State:
    return dict(build(tiny).state_dict())


def assert_holds(module: nn.Module, state: State) -> None:
    found = module.state_dict()
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor), name


def load(path: Path, key: str | None = None, ema: bool = False) -> LoadedCheckpoint:
    return load_checkpoint(path, options=CheckpointOptions(key=key, ema=ema))


def refusal(path: Path, key: str | None = None, ema: bool = False) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path, key, ema)
    message = str(caught.value)
    assert message.isprintable() and path.name in message and len(message) < 1200
    return message


@pytest.mark.parametrize("kind", files.PLAIN)
def test_the_weights_are_taken(kind: str, state: State, write: Write) -> None:
    path = write(files.PLAIN[kind](state))
    loaded = load(path)
    assert_holds(loaded.module, state)
    said = any("--ema takes them" in line for line in loaded.beside)
    assert said == (kind in files.AVERAGED)


@pytest.mark.parametrize("kind", files.AVERAGED)
def test_the_averages_are_taken_when_asked_for(kind: str, state: State, write: Write) -> None:
    loaded = load(write(files.PLAIN[kind](state)), ema=True)
    assert_holds(loaded.module, files.averaged(state))
    assert any("as asked (--ema)" in line for line in loaded.findings)
    own_buffer = any("1 tensors have no averages" in line and "background" in line for line in loaded.findings)
    assert own_buffer == (kind in ("compvis", "compvis around", "parameters only"))


@pytest.mark.parametrize("kind", files.PLAIN)
def test_a_module_of_ones_own_gets_the_same(kind: str, state: State, tiny: PriorConfig, write: Write) -> None:
    path = write(files.PLAIN[kind](state))
    module = Prior(tiny)
    load_into(module, path, [])
    assert_holds(module, state)
    if kind in files.AVERAGED:
        load_into(module, path, [], ema=True)
        assert_holds(module, files.averaged(state))


def test_what_was_left_aside_is_counted_by_groups(state: State, write: Write) -> None:
    loaded = load(write(files.lightning(state)))
    n = len(state)
    assert loaded.findings[0] == f"took the {n} tensors named 'net.…' of {n + 2}"
    assert loaded.beside == [
        f"left aside {3 * n + 3} other tensors: callbacks (1), optimizer_states ({3 * n}), state_dict.loss (1), "
        "state_dict.train_metric (1)"
    ]
    assert load(write(state)).beside == []


def test_the_averages_of_a_timm_file_are_described(state: State, write: Write) -> None:
    path = write(files.PLAIN["timm"](state))
    numbers = sum(tensor.numel() for tensor in state.values())
    shape = f"(vq-prior, {len(state)} tensors, {numbers:,} numbers)"
    assert load(path).beside[0] == f"left aside 'state_dict_ema' {shape}: averages, --ema takes them"
    taken = load(path, ema=True)
    assert taken.findings[:2] == ["took the weights under 'state_dict_ema'",
                                  "took the averages under 'state_dict_ema', as asked (--ema)"]
    assert taken.beside[0] == f"left aside 'state_dict' {shape}: --key takes it"


def test_several_models_are_refused_with_the_choice(
    state: State, bottom: PriorConfig, build: Build, write: Write
) -> None:
    other = dict(build(bottom).state_dict())
    path = write({"run": {**files.named("top.", state), **files.named("bottom.", other)}, "top": files.averaged(state)})
    message = refusal(path)
    assert "3 models fit: 'run.top' (vq-prior, " in message and "'run.bottom' (vq-prior, " in message
    assert "--key run.top" in message
    assert_holds(load(path, "run.top").module, state)
    assert_holds(load(path, "top").module, files.averaged(state))  # the whole place before parts of others
    assert_holds(load(path, "bottom").module, other)
    assert "2 models fit" in refusal(path, "run")
    assert "--key middle names no known model in the file; it holds 'run.top'" in refusal(path, "middle")


def test_one_file_with_all_stages(state: State, write: Write) -> None:
    """A prior, the VQ-VAE of its codes and its discriminator in one module, each with averages, and a file of parts."""
    vqvae = dict(VqVae(VQVAE).state_dict())
    parts = {"prior": state, "vqvae": vqvae, "discriminator": {"main.0.weight": torch.ones(4, 3, 4, 4)}}
    joint = {f"{part}.{name}": tensor for part, inner in parts.items() for name, tensor in inner.items()}
    for content, place in (({"state_dict": joint}, "state_dict."), (parts, "")):
        path = write(content)
        message = refusal(path)
        assert f"2 models fit: '{place}prior' (vq-prior, " in message and f"'{place}vqvae' (vq-vae, " in message
        assert_holds(load(path, "prior").module, state)
        loaded = load_checkpoint(path, options=CheckpointOptions(key="vqvae", shape=VQVAE.shape))
        assert loaded.family == "vq-vae"
        assert_holds(loaded.module, vqvae)
        assert loaded.beside[0].startswith(f"left aside '{place}prior' (vq-prior") and len(loaded.beside) == 2
        assert f"1 other tensors: {place}discriminator (1)" in loaded.beside[1]
        assert "names no known model" in refusal(path, "discriminator")


def test_the_file_itself_is_a_dot(state: State, write: Write) -> None:
    path = write({**state, **files.named("second.", files.averaged(state))})
    assert "2 models fit: '.' (vq-prior" in refusal(path)
    assert_holds(load(path, ".").module, state)
    assert_holds(load(path, "second").module, files.averaged(state))


def test_one_wrapper_is_not_preferred_to_another(state: State, write: Write) -> None:
    path = write({"model": state, "state_dict": files.averaged(state)})
    assert "2 models fit: 'model'" in refusal(path)
    assert_holds(load(path, "state_dict").module, files.averaged(state))


def test_equal_copies_are_one_model(state: State, write: Write) -> None:
    copy = {name: tensor.clone() for name, tensor in state.items()}
    assert_holds(load(write({"net": state, "best": copy})).module, state)
    copy["out.0.conv1.conv.bias"][0] += 1e-6
    assert "2 models fit" in refusal(write({"net": state, "best": copy}))


def test_averages_that_are_not_there_or_not_complete(state: State, write: Write) -> None:
    assert "holds no averaged copy of the weights 'net'; leave --ema out" in refusal(write({"net": state}), ema=True)
    part = files.dotless(state)
    name = next(name for name in part if name.endswith("bias"))
    some = {other: tensor for other, tensor in part.items() if other != name}
    assert "the averages lack 1 parameters" in refusal(write({**state, **files.named("ema.", some)}), ema=True)
    part[name] = torch.ones(7)
    assert "has shape [7]" in refusal(write({**state, **files.named("ema.", part)}), ema=True)
    two = {**state, **files.named("ema.", files.dotless(state)), **files.named("model_ema.", files.dotless(state))}
    assert "holds averages under ema., model_ema." in refusal(write(two), ema=True)


def test_an_average_that_its_key_names(state: State, write: Write) -> None:
    path = write(files.PLAIN["lucidrains"](state))
    assert_holds(load(path, "ema_model").module, files.averaged(state))
    assert_holds(load(path, "ema").module, files.averaged(state))
    assert_holds(load(path, "online_model").module, state)


def test_averages_without_their_weights_are_taken_and_said(state: State, write: Write) -> None:
    loaded = load(write({"ema": state}))
    assert_holds(loaded.module, state)
    assert loaded.beside == ["the weights under 'ema' are averages by their name"]


def test_a_variants_tensor_is_not_left_aside(state: State, write: Write) -> None:
    for extra in ("class_embedding.weight", "lossy.weight", "temperature"):
        assert f"{extra} [1] in addition" in refusal(write({"net": {**state, extra: torch.ones(1)}}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype, state: State, tiny: PriorConfig, write: Write) -> None:
    cast = {name: tensor.to(dtype) for name, tensor in state.items()}
    path = write({"net": cast})
    loaded = load(path)
    assert_holds(loaded.module, {name: tensor.float() for name, tensor in cast.items()})
    assert f"converted {dtype} tensors to float32" in loaded.findings
    module, beside = Prior(tiny), list[str]()
    load_into(module, path, [], beside=beside)
    assert_holds(module, {name: tensor.float() for name, tensor in cast.items()})
    assert f"converted {dtype} tensors to torch.float32" in beside


@pytest.mark.parametrize("kind", ["many marks", "a file within itself", "deep", "averages everywhere"])
def test_files_without_end(kind: str, write: Write, state: State) -> None:
    """Very many places, of which the time to look must not grow faster than the file."""
    one = torch.zeros(1)
    loop: dict[str, object] = {"w": one}
    loop |= {f"k{n}": loop for n in range(20)}
    deep: dict[str, object] = {"net": state}
    for _ in range(100):
        deep = {"in": deep}
    content, says = {
        "many marks": ({f"a{n}.dec.blocks.0": one for n in range(20_000)}, "not known: 20000 tensors"),
        "a file within itself": (loop, "holds more than 100,000 dictionaries"),
        "deep": (deep, "no weights were found: it holds in"),
        "averages everywhere": ({"net": {**state, "more": one, **{f"a{n}.ema.x": one for n in range(20_000)}}}, "more"),
    }[kind]
    assert says in refusal(write(content))


SPECIAL: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (lambda t: t.to_sparse(), "torch.sparse_coo"),
    "quantised": (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "torch.qint8"),
    "meta": (lambda t: t.to("meta"), "meta)"),
    "complex": (lambda t: t.to(torch.complex64), "torch.complex64"),
    "integers": (lambda t: t.to(torch.int8), "torch.int8"),
    "expanded": (lambda t: torch.ones(()).expand(t.shape), "stored in full"),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensors_of_other_kinds_are_refused_by_name(
    kind: str, state: State, tiny: PriorConfig, write: Write
) -> None:
    name = "horizontal.conv.conv.weight_v"
    change, says = SPECIAL[kind]
    path = write({"net": {**state, name: change(state[name])}})
    message = refusal(path)
    assert f"tensor {name}" in message and says in message
    with pytest.raises(CheckpointError, match=f"tensor {name} is not a dense tensor") as caught:
        load_into(Prior(tiny), path, [])
    assert says in str(caught.value)
