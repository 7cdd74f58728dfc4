# The saed container: the daemon, the libraries it runs with, and the demo dictionaries; nothing else.
#
#   docker build -t saed .
#   docker run -p 127.0.0.1:8673:8673 saed                           # serves the demo dictionaries
#   docker run -p 127.0.0.1:8673:8673 -v /my/saes:/dictionaries:ro saed mine=/dictionaries/ae.pt
#
# Inside the container saed listens on all addresses, IPv6 and IPv4 ([::]; 0.0.0.0 where IPv6 is off),
# and asks nobody who they are unless SAED_API_KEY_FILE names a file of keys: whoever reaches the
# published port can use it. It runs as a numeric
# non-root user, as any other uid, and with --read-only.
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS build
# What `saed --version --verbose` shows: --build-arg COMMIT=$(git rev-parse HEAD)
ARG COMMIT=unknown
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc g++ make pkg-config libc6-dev libmicrohttpd-dev libjansson-dev \
        libopenblas-pthread-dev libzip-dev zlib1g-dev libzstd-dev nettle-dev >/dev/null
WORKDIR /src
COPY Makefile ./
COPY tests/support/deps.sh tests/support/deps.sh
COPY lib lib
COPY proto proto
COPY server server
# deps.stamp: what the build needs is installed above; tests are not built here.
RUN mkdir -p build && touch build/deps.stamp && make -j2 COMMIT="$COMMIT" all && strip build/saed
COPY deploy/image-root.sh deploy/image-root.sh
COPY deploy/demo deploy/demo
RUN sh deploy/image-root.sh build/saed /out \
 && cd deploy/demo && install -D -m 0644 -t /out/usr/share/saed digits.pt words.safetensors words.labels.json \
 && install -D -m 0644 -t /out/usr/share/doc/saed LICENSE.WordNet \
 && mkdir -p /out/dictionaries && ln -s /usr/share/saed/digits.pt /usr/share/saed/words.safetensors /out/dictionaries

FROM scratch
COPY --from=build /out /
USER 65532:65532
WORKDIR /
EXPOSE 8673
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
    CMD ["/usr/local/bin/saed", "--probe", "http://127.0.0.1:8673/healthz"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/saed", "--listen", "[::]:8673", "--insecure-no-auth"]
CMD ["digits=/usr/share/saed/digits.pt", \
     "words=/usr/share/saed/words.safetensors:labels=/usr/share/saed/words.labels.json"]
