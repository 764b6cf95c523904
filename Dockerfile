# Two targets: `cpu`, and `cuda` (the default), which needs the NVIDIA Container Toolkit on the host and nothing else:
# PyTorch brings its own CUDA libraries. The virtual environment is made in a stage of its own and copied.
#
#   docker build --target cpu -t infinitetalk:cpu .
#   docker run --rm -p 127.0.0.1:7860:7860 -v infinitetalk:/data infinitetalk:cpu

FROM python:3.12-slim-bookworm AS source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src src
# The version that the package calls itself; without one it is a development version.
ARG VERSION=0.1.dev0
ENV SETUPTOOLS_SCM_PRETEND_VERSION_FOR_INFINITETALK=$VERSION
RUN python -m venv /opt/infinitetalk

FROM source AS cpu-installed
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/infinitetalk/bin/python -m pip install -c constraints.txt --index-url "$TORCH_INDEX" torch \
    && /opt/infinitetalk/bin/python -m pip install -c constraints.txt ".[app,serve,postgresql]"

FROM source AS cuda-installed
RUN /opt/infinitetalk/bin/python -m pip install -c constraints.txt ".[app,serve,postgresql]"

FROM python:3.12-slim-bookworm AS base
RUN groupadd --gid 1000 infinitetalk \
    && useradd --uid 1000 --gid 1000 --no-log-init --create-home infinitetalk \
    && mkdir /data \
    && chown infinitetalk:infinitetalk /data
ENV PATH=/opt/infinitetalk/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/data/models \
    INFINITETALK_CONFIG=/data/config \
    INFINITETALK_CACHE=/data/cache \
    INFINITETALK_DATA=/data/studio \
    HEALTH=http://127.0.0.1:7860/
USER 1000:1000
WORKDIR /data
VOLUME /data
EXPOSE 7860 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEALTH'], timeout=8)"]
ENTRYPOINT ["infinitetalk"]
CMD ["app", "--host", "0.0.0.0", "--port", "7860"]

FROM base AS cpu
COPY --from=cpu-installed /opt/infinitetalk /opt/infinitetalk

# Triton compiles what launches its kernels when they are first used; Debian's newest of this release will do.
FROM base AS cuda
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
USER 1000:1000
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda-installed /opt/infinitetalk /opt/infinitetalk
