"""Other people's libraries over our models. Each takes seconds to import, so they are imported where they are used."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from streamdrnn import Classifier, DilatedRNN, StreamingDRNN, Tagger
from tests.agreement import assert_close

X = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1))


def tagger(**options: Any) -> Tagger:
    torch.manual_seed(0)
    return Tagger(DilatedRNN(3, 4, 2, **options), 2)


def test_torchinfo_counts_parameters_and_sees_shapes() -> None:
    import torchinfo

    model = tagger()
    summary = torchinfo.summary(model, input_data=[X], verbose=0)
    assert summary.total_params == sum(p.numel() for p in model.parameters())
    assert "[6, 2, 2]" in str(summary)
    layers = {layer.class_name for layer in summary.summary_list}
    assert layers >= {"Tagger", "DilatedRNN", "Linear"}


@pytest.mark.filterwarnings("ignore:.*(backward hook|Setting forward).*")
def test_captum_attributes_to_inputs_and_layers() -> None:
    from captum.attr import IntegratedGradients, LayerActivation, LayerGradientXActivation, Saliency

    model = Classifier(DilatedRNN(3, 4, 2), 2)

    def score(x: Tensor) -> Tensor:
        y: Tensor = model(x.transpose(0, 1))[0][-1]
        return y

    x = X.transpose(0, 1).contiguous()  # captum's batch comes first
    steps = IntegratedGradients(score)
    attributions, delta = steps.attribute(x, target=1, return_convergence_delta=True, n_steps=64)
    assert attributions.shape == x.shape
    assert delta.abs().max() < 1e-3
    (gradient,) = torch.autograd.grad(score(x.requires_grad_())[:, 1].sum(), x)
    assert_close(Saliency(score).attribute(x, target=1, abs=False), gradient)
    activation = LayerActivation(score, model.output).attribute(x)
    assert_close(activation, model(X)[0])
    # Through the network, whose output is a tuple with a state of tensors in it.
    found = LayerActivation(score, model.rnn).attribute(x)
    assert_close(found[0], model.rnn(X)[0])
    assert LayerGradientXActivation(score, model.output).attribute(x, target=1).shape == (6, 2, 2)


def test_lora_changes_the_output_trains_and_streams() -> None:
    import peft

    model, plain = tagger(), tagger()(X)[0]
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["output"], r=2, init_lora_weights=False))
    y = adapted(X)[0]
    assert (y - plain).abs().max() > 0.01
    with adapted.disable_adapter():
        assert_close(adapted(X)[0], plain)
    y.square().sum().backward()
    trained = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert len(trained) == 2
    assert all("lora" in name for name in trained)
    assert_close(StreamingDRNN(adapted.base_model.model, 2).push(X), y.detach())
    # As part of a model, where peft takes no ``config`` for one of a language model.
    options = peft.LoraConfig(target_modules=["output"], r=2, init_lora_weights=False)
    adapted = peft.get_peft_model(nn.Sequential(tagger()), options)
    y = adapted(X)[0]
    (merged,) = adapted.merge_and_unload()
    assert type(merged.output) is nn.Linear
    assert_close(merged(X)[0], y)


def test_accelerate_trains_saves_and_goes_on(tmp_path: Path) -> None:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    loader = DataLoader(TensorDataset(torch.randn(8, 5, 3), torch.randn(8, 5, 2)), batch_size=4)
    model = Tagger(DilatedRNN(3, 4, 2), 2)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.Adam(model.parameters(), 0.02), loader)
    losses = []
    for _ in range(20):
        state: Any = None
        for x, y in loader:
            out, state = model(x.transpose(0, 1), state)
            state = state.detach()
            loss = (out - y.transpose(0, 1)).square().mean()
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]
    gathered = accelerator.gather(state)
    assert [t.shape for t in gathered.rnn.h] == [t.shape for t in state.rnn.h]
    moved = accelerate.utils.send_to_device(state, "cpu")
    assert type(moved) is type(state)
    accelerator.save_state(str(tmp_path))
    want = model(X)[0].detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    accelerator.load_state(str(tmp_path))
    assert torch.equal(model(X)[0], want)
    accelerate.Accelerator().free_memory()


def test_accelerate_makes_large_models_without_memory(tmp_path: Path) -> None:
    import accelerate

    model = tagger()
    accelerate.Accelerator().save_model(model, str(tmp_path))
    with accelerate.init_empty_weights():
        empty = tagger()
    loaded = accelerate.load_checkpoint_and_dispatch(empty, str(tmp_path / "model.safetensors"), device_map={"": "cpu"})
    assert_close(loaded(X)[0], model(X)[0])


def test_data_parallel_walks_through_states() -> None:
    """Without a GPU it calls the module; its gather and scatter are those of many."""
    parallel = nn.DataParallel(tagger())
    y, state = parallel(X)
    assert_close(y, tagger()(X)[0])
    assert parallel(X, state)[0].shape == (6, 2, 2)
    leaves = torch.utils._pytree.tree_leaves(state)
    assert all(leaf is None or isinstance(leaf, Tensor) for leaf in leaves)


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on loggers, workers and the like
def test_lightning_trains_in_mixed_precision_and_restores(tmp_path: Path) -> None:
    import lightning

    class Recall(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = Tagger(DilatedRNN(3, 8, 2), 3)
            self.losses = list[float]()

        def training_step(self, batch: Any, index: int) -> Tensor:
            (x,) = batch
            y, _ = self.model(x.transpose(0, 1))
            loss: Tensor = (y[1:] - x.transpose(0, 1)[:-1]).square().mean()
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 0.05)

    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": True}
    trainer = lightning.Trainer(max_epochs=15, precision="bf16-mixed", default_root_dir=tmp_path, **options)
    module = Recall()
    trainer.fit(module, DataLoader(TensorDataset(torch.randn(16, 9, 3)), batch_size=8))
    assert sum(module.losses[-4:]) < 0.8 * sum(module.losses[:4])
    (saved,) = tmp_path.rglob("*.ckpt")
    restored = Recall.load_from_checkpoint(saved)
    assert torch.equal(restored.model(X)[0], module.model(X)[0])
    assert_close(StreamingDRNN(restored.model, 2).push(X), module.model(X)[0].detach())
