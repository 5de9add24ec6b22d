"""Text classifiers: any of transformers' sequence classification models, and the published heads of UnsafeConcepts.

Those are a RoBERTa encoder and one linear layer on its first token, as a bare state dict; it is loaded without pickle,
and every key has to fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from vlmend.errors import ModelError
from vlmend.models.load import device_of

HEADS = {3: ("safe", "unsafe", "N/A"), 5: ("A", "B", "C", "D", "N/A")}  # alignment, perception (arXiv 2507.11155)
ON_HUB = ("yiting/alignment_classifier", "yiting/perception_classifier")
HEAD = "epoch_10.pt"
LONGEST = 512  # tokens; longer answers are cut at the end, as the published heads were trained


@dataclass(frozen=True)
class Classifier:
    """A loaded model. `fingerprint` hashes its weights and its tokenizer's vocabulary."""

    labels: tuple[str, ...]
    fingerprint: str
    module: Any
    tokenizer: Any
    device: torch.device

    def logits(self, texts: Sequence[str], firsts: Sequence[str] | None = None) -> list[list[float]]:
        """(texts, labels). `firsts` are the first of two segments; what is too long is cut off them, not the texts."""
        pairs = (list(firsts), list(texts)) if firsts is not None else (list(texts),)
        longest = min(LONGEST, int(self.tokenizer.model_max_length))
        how: Any = "only_first" if firsts is not None else True
        encoded = self.tokenizer(*pairs, padding=True, truncation=how, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            given = {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask")}
            out = self.module(**given)
        logits: Tensor = out if isinstance(out, Tensor) else out.logits
        return logits.float().cpu().tolist()


class PublishedHead(nn.Module):
    """`Linear(hidden, K)` on the encoder's output at its first token: no pooler, no dropout."""

    def __init__(self, encoder: nn.Module, hidden: int, labels: int) -> None:
        super().__init__()
        self.roberta = encoder
        self.classifier = nn.Linear(hidden, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, K) logits."""
        hidden: Tensor = self.roberta(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.classifier(hidden[:, 0])


def load(name: str, *, base: str = "roberta-base", device: str = "auto") -> Classifier:
    """A folder or Hugging Face id; a published head, its `.pt` file or id, on the encoder `base`. Raises ModelError."""
    path = Path(name).expanduser()
    where = device_of(device)
    try:
        if name in ON_HUB and not path.exists():
            path = _fetched(name)
        if path.suffix in (".pt", ".pth", ".bin") or (path.is_dir() and (path / HEAD).is_file()):
            head = path if path.is_file() else path / HEAD
            labels, module, tokenizer = _published(head, base)
        else:
            labels, module, tokenizer = _pretrained(name if not path.exists() else str(path))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, UnpicklingError) as error:
        if isinstance(error, ModelError):
            raise
        gist = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"classifier {name} does not load: {gist}") from error
    module.requires_grad_(False)
    module.eval().to(where)
    return Classifier(labels, _fingerprint(module, tokenizer), module, tokenizer, where)


def _fetched(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, HEAD))


def _pretrained(name: str) -> tuple[tuple[str, ...], Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    module, info = AutoModelForSequenceClassification.from_pretrained(name, output_loading_info=True)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(f"classifier {name} has no trained head: {', '.join(missing[:3])} would be made up")
    names: dict[int, str] = module.config.id2label
    return tuple(names[i] for i in range(len(names))), module, AutoTokenizer.from_pretrained(name)


def _published(head: Path, base: str) -> tuple[tuple[str, ...], Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    state: dict[str, Tensor] = torch.load(head, map_location="cpu", weights_only=True)
    config = AutoConfig.from_pretrained(base)
    count = len(state["classifier.weight"])
    if count not in HEADS:
        raise ModelError(f"{head} has {count} classes; the published heads have {' or '.join(map(str, HEADS))}")
    module = PublishedHead(AutoModel.from_config(config), config.hidden_size, count)
    state.pop("roberta.embeddings.position_ids", None)  # a constant that older transformers stored
    module.load_state_dict(state, strict=True)
    return HEADS[count], module, AutoTokenizer.from_pretrained(base)


def _fingerprint(module: nn.Module, tokenizer: Any) -> str:
    total = hashlib.sha256()
    for name, weight in sorted(module.state_dict().items()):
        total.update(name.encode())
        total.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    total.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    return total.hexdigest()
