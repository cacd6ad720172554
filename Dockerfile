FROM python:3.13-slim AS build

# uWSGI is compiled on installation; the compiler stays behind in this stage. Without a version, since Debian keeps only
# the newest one: a pinned build breaks at the next update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/auto-deployer
COPY requirements.txt ./
# With --require-hashes pip refuses a package that requirements.txt doesn't list, and a file that was replaced since.
# pip leaves again: nothing is ever installed in a running container.
RUN python -m venv venv \
    && venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt \
    && venv/bin/pip uninstall --yes --quiet pip

COPY *.py pyproject.toml uwsgi.ini ./
COPY access/ access/
COPY cluster/ cluster/
COPY manifest/ manifest/
COPY rollout/ rollout/
COPY web/ web/
# Now, since a read-only root can't keep what Python compiles at each start.
RUN venv/bin/python -m compileall -q .


FROM python:3.13-slim
COPY --from=build /opt/auto-deployer /opt/auto-deployer
WORKDIR /opt/auto-deployer
# The tunable: for each thread, glibc keeps up to 200 KiB of freed memory that no other thread can use. With 96 threads
# that grew to 15 MiB. https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html
ENV PATH=/opt/auto-deployer/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    GLIBC_TUNABLES=glibc.malloc.tcache_count=0
USER 10001:10001
EXPOSE 8080
CMD ["uwsgi", "--ini", "uwsgi.ini"]
