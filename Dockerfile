# The service on a CPU. Build it in the folder of this file, and give it a folder of models and a read-only root:
#     docker build -t pixelsnail-infer .
#     docker run --rm --read-only --cap-drop ALL -p 127.0.0.1:8000:8000 -v ./models:/models:ro pixelsnail-infer
# Everything is compiled here, because the container can write no bytecode; the base image comes without that of the
# standard library. The health check asks at PIXELSNAIL_PORT, and past any proxy of the environment.
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/pixelsnail \
    && /opt/pixelsnail/bin/pip install --no-cache-dir --compile -c constraints.txt '.[serve,cpu]'

FROM python:3.11-slim-bookworm
RUN python -m compileall -q -x '/(tests?|idle_test)/' /usr/local/lib/python3.11
COPY --from=build /opt/pixelsnail /opt/pixelsnail
ENV PATH=/opt/pixelsnail/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIXELSNAIL_PORT=8000
USER 10001:10001
WORKDIR /models
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import http.client, os, sys; asked = http.client.HTTPConnection('127.0.0.1', int(os.environ['PIXELSNAIL_PORT']), timeout=4); asked.request('GET', '/healthz'); sys.exit(asked.getresponse().status != 200)"]
ENTRYPOINT ["pixelsnail-infer"]
CMD ["serve", "/models/model.onnx", "--host", "0.0.0.0", "--port", "8000"]
