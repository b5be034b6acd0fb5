# docker build -t mnsa .                                       for CPUs
# docker build -t mnsa --build-arg TORCH_BACKEND=cu130 .       for NVIDIA GPUs (run it with --gpus all)
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" mnsa predict runs/first photos --out predictions

FROM python:3.11-slim AS build
ARG TORCH_BACKEND=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src src
# Only uv finds the builds of PyTorch for each backend. constraints.txt has the versions.
RUN pip install "uv>=0.9,<1" \
    && python -m venv /opt/mnsa \
    && uv pip install --python /opt/mnsa/bin/python --torch-backend "${TORCH_BACKEND}" --constraint constraints.txt .

FROM python:3.11-slim
COPY --from=build /opt/mnsa /opt/mnsa
ENV PATH=/opt/mnsa/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/tmp/huggingface MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home --uid 1000 mnsa
USER 1000
WORKDIR /data
ENTRYPOINT ["mnsa"]
CMD ["--help"]
