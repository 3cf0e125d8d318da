"""Public layouts, rebuilt with invented content, go through `mypt prepare` and `mypt train` with known counts."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from mypt.data.shards import open_shards
from mypt.schema.files.dataset import METADATA_FILE, DatasetMetadata
from tests.conftest import Mypt, flat

MODEL = [
    "--n-layer", "1", "--n-head", "2", "--n-embd", "8", "--block-size", "16", "--batch-size", "4", "--eval-iters", "4",
    "--max-iters", "4", "--eval-interval", "2", "--no-use-amp",
]  # fmt: skip
WORDS = ["the", "a", "red", "blue", "lamp", "river", "seven", "reads", "carries", "slowly", "often", "under", "bright"]


def sentences(count: int, seed: int) -> list[str]:
    """Invented documents, no two of them alike."""
    rng = random.Random(seed)
    return [f"{seed}-{i}. " + " ".join(rng.choices(WORDS, k=rng.randint(5, 40))) for i in range(count)]


def metadata_of(folder: str) -> DatasetMetadata:
    return DatasetMetadata.model_validate_json((Path(folder) / METADATA_FILE).read_bytes())


def state_of(name: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(Path(f"checkpoints/{name}/training_state.json").read_text(encoding="utf-8"))
    return state


def test_c4(mypt: Mypt, folder: Path) -> None:
    """Files of JSON lines named .json.gz, the splits by their names, with fields besides the text."""
    (folder / "c4/en").mkdir(parents=True)
    counts = {"c4-train.00000-of-00002": 30, "c4-train.00001-of-00002": 25, "c4-validation.00000-of-00001": 7}
    documents: dict[str, list[str]] = {}
    for seed, (name, count) in enumerate(counts.items()):
        documents[name] = sentences(count, seed)
        rows = [
            {"text": t, "timestamp": "2019-04-25T12:57:54Z", "url": f"https://example.org/{t[:5]}"}
            for t in documents[name]
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"c4/en/{name}.json.gz").write_bytes(gzip.compress(lines.encode()))
    said = flat(mypt("prepare", "c4", "--out", "d", "--tokenization", "char").output)
    metadata = metadata_of("d")
    assert (metadata.train.documents, metadata.val.documents) == (55, 7) and metadata.split == "given", said
    assert metadata.val.tokens == sum(len(t) + 1 for t in documents["c4-validation.00000-of-00001"])
    assert metadata.train.tokens == sum(len(t) + 1 for n, ts in documents.items() if "train" in n for t in ts)
    assert "62 document borders" in flat(mypt("train", "m", "--dataset-dir", "d", *MODEL).output)
    one = "c4/en/c4-train.00000-of-00002.json.gz"
    assert "30 document borders" in flat(mypt("train", "n", "--input-file", one, "--tokenization=char", *MODEL).output)


def test_a_hugging_face_dataset_of_three_splits(mypt: Mypt, folder: Path) -> None:
    """Parquet files in data/, named by their split; the card beside them is no text of it, and test stays out."""
    (folder / "hub/data").mkdir(parents=True)
    (folder / "hub/README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    (folder / "hub/.gitattributes").write_text("*.parquet filter=lfs\n", encoding="utf-8")
    counts = {
        "train-00000-of-00002": 80,
        "train-00001-of-00002": 60,
        "validation-00000-of-00001": 40,
        "test-00000-of-00001": 20,
    }
    for seed, (name, count) in enumerate(counts.items()):
        table = pa.table({"id": list(range(count)), "story": sentences(count, seed)})
        parquet.write_table(table, folder / f"hub/data/{name}.parquet")
    said = flat(mypt("prepare", "hub", "--out", "d", "--tokenization", "char", "--text-field", "story").output)
    metadata = metadata_of("d")
    assert (metadata.train.documents, metadata.val.documents) == (140, 40), said
    assert "README.md" in said and "test" in said
    mypt("train", "m", "--dataset-dir", "d", *MODEL)
    data = state_of("m")["data"]
    assert data["documents"] == 180 and data["val_tokens"] == sum(len(t) + 1 for t in sentences(40, 2))


def test_a_dump_of_sharegpt(mypt: Mypt, folder: Path) -> None:
    """One long list of conversations, pretty-printed, with names of speakers and fields that nobody trains on."""
    questions, answers = sentences(50, 8), sentences(50, 9)
    dump = [
        {
            "id": f"chat_{i}",
            "conversations": [
                *([{"from": "system", "value": "Be brief."}] if i % 5 == 0 else []),
                {"from": "human", "value": question},
                {"from": "gpt", "value": answer, "markdown": None},
            ],
        }
        for i, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]
    (folder / "dump.json").write_text(json.dumps(dump, indent=2), encoding="utf-8")
    said = flat(
        mypt("prepare", "dump.json", "--chat", "--out", "d", "--tokenization", "char", "--val-share=0.2").output
    )
    metadata = metadata_of("d")
    assert metadata.train.documents + metadata.val.documents == 50 and "sharegpt" in said.lower(), said
    system = sum(len("Be brief.") + 2 for i in range(50) if i % 5 == 0)
    spoken = sum(len(q) + 2 + len(a) + 2 + 1 for q, a in zip(questions, answers, strict=True))
    assert metadata.train.tokens + metadata.val.tokens == system + spoken
    counted = sum(
        int((part.mask != 0).sum())
        for s in open_shards("d").splits.values()
        for part in s.parts
        if part.mask is not None
    )
    assert counted == sum(len(answer) + 1 for answer in answers)
    told = flat(mypt("train", "m", "--dataset-dir", "d", *MODEL).output)
    assert state_of("m")["data"]["masked"] and "loss mask" in told
