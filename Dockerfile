# cer-fusion in a box: docker build -t cer-fusion . && docker run --rm -v "$PWD:/work" cer-fusion cer-feat demo
# The torch of a plain installation brings its CUDA libraries and runs on a CPU as well: with a GPU, docker run --gpus all …
# A smaller image for CPUs alone: --build-arg TORCH_INDEX=URL, with the address of an index of CPU builds of torch.
FROM python:3.11-bookworm AS dev
RUN useradd --create-home --uid 1000 researcher
USER 1000

FROM python:3.11-slim-bookworm
ARG TORCH_INDEX=
WORKDIR /opt/cer-fusion
COPY . .
RUN if [ -n "$TORCH_INDEX" ]; then \
      pip install --no-cache-dir --constraint constraints/exact.txt --index-url "$TORCH_INDEX" torch torchvision; \
    fi \
 && pip install --no-cache-dir --constraint constraints/exact.txt ".[onnx,parquet,faces,video]" \
 && useradd --create-home --uid 1000 researcher
USER 1000
WORKDIR /work
CMD ["cer-feat", "--help"]
