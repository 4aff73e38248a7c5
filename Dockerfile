# docker build -t align .                                                                          # CPU
# docker build -t align --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .    # CUDA
# docker run --rm -v "$PWD:/runs" [--gpus all] align fit -c dpo ...
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY align align
COPY callbacks callbacks
COPY configs configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt --index-url "$TORCH_INDEX" \
        --extra-index-url https://pypi.org/simple torch
RUN --mount=from=build,source=/wheel,target=/wheel \
    pip install --no-cache-dir --constraint /tmp/constraints.txt /wheel/*.whl
WORKDIR /runs
ENTRYPOINT ["align"]
CMD ["--help"]
