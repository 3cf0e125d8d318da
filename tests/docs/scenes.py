"""What a page takes for granted, and what of it is not run or not compared, each with the reason."""

BY_HEART = "mypt train dante --input-file random.txt --max-iters 100 --eval-interval 10 --lr 1e-2 --dropout 0"
"""A run that learns its text by heart, so that its best step is not its last."""
OF_OTHERS = """
    mypt train small --input-file dante.txt --pos-encoding rope --mlp-type swiglu --norm-type rmsnorm
    mypt export small --out {}
"""
"""What stands for a model of Hugging Face."""
SCENES = {
    "compare.md": """
        mypt train modelA --input-file dante.txt
        mypt train modelB --input-file dante.txt --lr 3e-4 --log-file logs/train/old_eval.jsonl
        mypt train lr1e-3 --input-file dante.txt --lr 1e-3
        mypt train lr3e-3 --input-file dante.txt --lr 1e-1
        mypt compare lr1e-3 lr3e-3
    """,
    "data.md": """
        python -c "import numpy; numpy.arange(9, dtype='<u2').tofile('train.bin')"
        mypt prepare texts/ --out data/general
        mypt train dante_base --input-file dante.txt
    """,
    "du.md": """
        mypt train slow --input-file dante.txt
        mypt rm slow_fp16
        mypt train dante_old --input-file dante.txt
        mypt rm dante_old
    """,
    "evaluate.md": "mypt prepare texts/ --out data/dante",
    "files.md": f"""
        {BY_HEART}
        {BY_HEART} --patience 3
    """,
    "formats.md": OF_OTHERS.format("SmolLM2-135M-Instruct"),
    "generate.md": """
        mypt prepare talks.jsonl --chat --out data/talks
        mypt train talker --dataset-dir data/talks
    """,
    "import.md": OF_OTHERS.format("SmolLM2-135M"),
    "inspect.md": f"""
        mypt train dante_base --input-file dante.txt
        mypt train dante_purgatorio --init-from-model dante_base --input-file purgatorio.txt
        mypt inspect dante_purgatorio
        {BY_HEART}
        mypt inspect dante
    """,
    "logs.md": """
        mypt train dante --input-file dante.txt
        COLUMNS=80 mypt logs show dante --event eval
    """,
    "prepare.md": """
        mypt prepare texts/ --out data/dante
        mypt train base --dataset-dir data/dante
    """,
    "python.md": "mypt rm dante --purge",
    "reproduce.md": """
        mypt train base --input-file dante.txt
        mypt train dante --input-file dante.txt --init-from-model base
        cp -r checkpoints/base checkpoints/base_copy
    """,
    "resume.md": """
        mypt train dante --input-file dante.txt
        mypt resume dante --max-iters 8 --lr 1e-4
        mypt resume dante --max-iters 12 --eval-iters 1
    """,
    "rm.md": """
        mypt train dante_old --input-file dante.txt
        mypt train dante_older --input-file dante.txt
    """,
    "train.md": f"""
        {BY_HEART}
        echo '{{"n_layr": 4, "n_embd": 100, "n_head": 6}}' > typos.json
        ! mypt train dante --config-file typos.json --max-iters -5
        mypt train notes --input-file dante.txt --n-layer 2
        ! mypt train notes --input-file more.txt --n-layer 3 --seed 4
    """,
    "tutorial.md": "mypt rm dante --purge",
    "verify.md": "mypt export dante",
}
"""Lines that are run before those of a page; one after `!` has to be refused."""

SERVES = "serves until it is stopped; tests/board starts it"
PROCESSES = "needs several processes; tests/parallel has them"
NETWORK = "sends or fetches; tests/mirror and tests/run/test_evaluate.py have stand-ins"
LONG = "takes minutes"
FILES = "made by another program; tests/exchange/test_import.py has such files"
NOT_RUN = {
    ("board.md", "mypt board --open"): SERVES,
    ("tutorial.md", "mypt board --open"): "serves until it is stopped; tests/docs/test_tutorial.py starts it",
    ("board.md", "mypt board --port 8080"): SERVES,
    ("evaluate.md", "mypt evaluate dante --tasks arc_easy"): NETWORK,
    ("evaluate.md", "mypt evaluate dante --tasks my_task"): "takes half a minute; tests/run/test_evaluate.py",
    ("import.md", "mypt import gpt2_124M.bin"): FILES,
    ("import.md", "mypt import out/ckpt.pt"): FILES,
    ("mirrors.md", "mypt resume dante --max-iters 2000 --mirror tensorboard --mirror wandb"): NETWORK,
    ("mirrors.md", "mypt logs mirror dante --to trackio"): NETWORK,
    ("reliability.md", "python benchmarks/fuzz_bundles.py"): LONG,
    ("reliability.md", "python benchmarks/fuzz_calls.py"): LONG,
    ("resume.md", "mypt resume dante --phase"): "of a run with phases; tests/run/test_moved_inputs.py has one",
    ("scale.md", "torchrun --standalone"): PROCESSES,
    ("scale.md", "torchrun --nnodes 2"): PROCESSES,
}
"""Lines by their page and first words."""
FOREIGN = {
    "make": "installs, or runs these tests",
    ".venv/bin/pytest": "runs these tests",
    "UPDATE_SNAPSHOTS=1": "runs these tests",
    "pip": "installs",
    "sbatch": "of a cluster; tests/docs/test_slurm.py",
    "tensorboard": "serves until it is stopped",
}
"""Programs that are not run."""
PICTURE = "a picture, not what a command prints"
DRAWN = "drawn at random by a larger model"
COMPARED = "compared in "
NOT_PRINTED = {
    ("README.md", "No --input-file was given"): f"{COMPARED} tests/docs/test_docs.py",
    ("README.md", "checkpoints/dante/ "): PICTURE,
    ("board.md", "The runs of checkpoints are at"): SERVES,
    ("chat.md", "/help shows what you can do"): DRAWN,
    ("files.md", "checkpoints/"): PICTURE,
    ("files.md", "├── large/"): PICTURE,
    ("files.md", "step 500/2000"): f"{COMPARED} tests/docs/test_files_page.py",
    ("files.md", "  🏆 New GOLD checkpoint!"): f"{COMPARED} tests/docs/test_files_page.py",
    ("files.md", "Stopped after step 1240 (SIGINT)"): f"{COMPARED} tests/run/test_reliability.py",
    ("generate.md", "The f  rn"): DRAWN,
    ("logs.md", "dante_eval.jsonl, run r"): f"{COMPARED} tests/log/test_logs.py",
    ("prepare.md", "<|system|>Be kind."): PICTURE,
    ("reproduce.md", "different: first at"): f"{COMPARED} tests/run/test_verify_and_reproduce.py",
    ("tutorial.md", "The runs of checkpoints are at"): "compared in tests/board/test_verb.py",
    ("tutorial.md", "«L’umeco e cui il su"): DRAWN,
    ("train.md", "This run takes about 5.2h"): f"{COMPARED} tests/cli/test_shorter.py",
    ("train.md", "  ✎ Nel mezzo"): DRAWN,
}
"""Blocks by their page and first words."""
GENERATED = {"reference.md": f"{COMPARED} tests/docs/test_docs.py"}
"""Pages that the project writes itself."""
