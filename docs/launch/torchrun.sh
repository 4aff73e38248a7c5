#!/bin/bash
# On each of two machines with eight GPUs: HOST=name-of-the-first bash torchrun.sh
# A machine that is lost and runs this again is taken in, and the run goes on from the last checkpoint. The loss of HOST
# ends the other one too: then run this on both.
set -euo pipefail
# torchrun does not tell a machine that comes back where its own store is: https://github.com/pytorch/pytorch/issues/135712
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 10 \
    --rdzv-backend c10d --rdzv-id dpo --rdzv-endpoint "$HOST:29500" \
    -m align fit -c dpo -c multi_node --data PreferenceFileDataModule --data.path /shared/pairs.jsonl \
    -c qwen3_8b -c bfloat16_lora --trainer.default_root_dir /shared/runs/dpo
