# One image for every role: docker run … livehook streams|sink|api --host 0.0.0.0 --bootstrap-servers kafka:9092
FROM python:3.13-slim AS build

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY streams streams
COPY connectors connectors
COPY livehook livehook
RUN python -m venv /opt/livehook \
 && /opt/livehook/bin/pip install --no-cache-dir --disable-pip-version-check '.[postgresql]'


FROM python:3.13-slim

# A fixed number, so that a volume made by one version belongs to the next one too; the folder is there for the volume to inherit its owner.
RUN useradd --system --uid 10001 --user-group --no-create-home livehook \
 && install --directory --owner=livehook --group=livehook /var/lib/livehook
COPY --from=build /opt/livehook /opt/livehook

ENV PATH=/opt/livehook/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /var/lib/livehook
VOLUME /var/lib/livehook
USER livehook
ENTRYPOINT ["livehook"]
CMD ["--help"]
