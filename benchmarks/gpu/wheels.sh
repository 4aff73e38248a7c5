#!/usr/bin/env bash
# Wheels for a GPU machine without network that has Python 3.12, torch 2.11 (CUDA 13), lightning 2.6 and what they need: what it lacks of
# this project's needs, in the pinned versions, into a folder (.wheels/ unless another is given; about 30 MB).
# There:  python3 -m pip install --no-index --no-deps .wheels/*.whl
#         python3 -m pip install --no-index --no-deps --no-build-isolation -e .
set -euo pipefail
out=${1:-.wheels}
cd "$(dirname "$0")/../.."
mkdir -p "$out"
lacking=(
  annotated-types cffi datasets detect-secrets dill docstring-parser httpcore2 httpx2 jiter jsonargparse moocore multiprocess omegaconf
  openai peft platformdirs pycparser pydantic pydantic-core sniffio tenacity tokenizers torchmetrics transformers truststore
  typeshed-client typing-inspection
)
platforms=()
for name in manylinux2014_x86_64 manylinux_2_17_x86_64 manylinux_2_27_x86_64 manylinux_2_28_x86_64 any; do platforms+=(--platform "$name"); done
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 --abi abi3 --abi none \
  "${platforms[@]}" -c constraints.txt -d "$out" "${lacking[@]}"
ls "$out" | wc -l
du -sh "$out"
