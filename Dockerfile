# eai on an NVIDIA GPU. The steps are those of the README: `make install`, then `eai`.
#   docker build -t eai . && docker run --gpus all -v "$PWD/results:/eai/data/runs" eai run
FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /eai
COPY . .
RUN make install PYTHON=python3
ENV PATH=/eai/.venv/bin:$PATH
HEALTHCHECK --interval=5m --timeout=60s --start-period=60s CMD ["eai", "doctor"]
ENTRYPOINT ["eai"]
CMD ["doctor"]
