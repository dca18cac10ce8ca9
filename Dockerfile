# syntax=docker/dockerfile:1

# The image of the service, for CPUs and for NVIDIA GPUs. See docs/how-to/containers.md.
#
# Build arguments:
#   INDEX_URL        pip index for all packages; empty for pip's default
#   NPM_REGISTRY     npm registry for the web page's packages; empty for npm's default
#   TORCH_INDEX_URL  pip index for torch alone, for example one with CPU wheels; empty for the default, whose torch has CUDA

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG NODE_IMAGE=node:22-bookworm-slim

FROM ${NODE_IMAGE} AS page
ARG NPM_REGISTRY=""
WORKDIR /src/frontend
COPY frontend/package.json frontend/package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund ${NPM_REGISTRY:+--registry "$NPM_REGISTRY"}
COPY frontend ./
RUN npm run build

FROM ${PYTHON_IMAGE} AS build
ARG INDEX_URL=""
ARG TORCH_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY constraints.txt ./
RUN set -eu; \
    python -m venv /opt/wan22; \
    if [ -n "$INDEX_URL" ]; then export PIP_INDEX_URL="$INDEX_URL"; fi; \
    /opt/wan22/bin/pip install --constraint constraints.txt pip setuptools; \
    /opt/wan22/bin/pip install --constraint constraints.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch
COPY pyproject.toml README.md LICENSE ./
COPY configs ./configs
COPY wan22_bridge ./wan22_bridge
COPY deployments ./deployments
COPY serve_app ./serve_app
COPY --from=page /src/serve_app/page ./serve_app/page
RUN set -eu; \
    if [ -n "$INDEX_URL" ]; then export PIP_INDEX_URL="$INDEX_URL"; fi; \
    /opt/wan22/bin/pip install --constraint constraints.txt --no-build-isolation .
# A published port of a container reaches only a service that listens on all addresses, which therefore needs API keys.
COPY serve_config.yaml ./
RUN mkdir /etc/wan22 \
    && for config in serve_config.yaml configs/single_gpu.yaml configs/multi_gpu.yaml; do \
         sed 's/host: 127\.0\.0\.1/host: 0.0.0.0/' "$config" > "/etc/wan22/$(basename "$config")"; \
       done

FROM ${PYTHON_IMAGE}
# g++: torch.compile needs a compiler at run time. wget: the health check and KubeRay's probes call it.
# profile.d: KubeRay starts Ray in a login shell, which resets PATH.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 wan22 \
    && install --directory --owner wan22 --group wan22 /data \
    && echo 'export PATH=/opt/wan22/bin:$PATH' > /etc/profile.d/wan22.sh
COPY --from=build /opt/wan22 /opt/wan22
COPY --from=build /etc/wan22 /etc/wan22
ENV PATH=/opt/wan22/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /home/wan22
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s \
    CMD ["wget", "--quiet", "--tries=1", "--timeout=8", "--output-document=/dev/null", "http://127.0.0.1:8000/readyz"]
ENTRYPOINT ["wan22"]
CMD ["serve", "--config", "/etc/wan22/serve_config.yaml", "--data-dir", "/data"]
