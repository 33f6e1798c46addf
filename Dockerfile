# The Tidegate image: one binary and the system libraries that it loads. It does not run as root.
#
#   docker build -t tidegate .
#   docker run --rm -p 8080:8080 -e TIDEGATE_NATS__URL=nats://nats.example:4222 tidegate

# The same version as in rust-toolchain.toml.
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /build

# Build the dependencies in a layer of their own, which is rebuilt only when they change. For this, each crate has its
# manifest and an empty library.
COPY Cargo.toml Cargo.lock ./
COPY crates/tidegate-bench/Cargo.toml crates/tidegate-bench/
COPY crates/tidegate-document/Cargo.toml crates/tidegate-document/
COPY crates/tidegate-protocol/Cargo.toml crates/tidegate-protocol/
COPY crates/tidegate-vocabulary/Cargo.toml crates/tidegate-vocabulary/
RUN mkdir src crates/tidegate-bench/src crates/tidegate-document/src crates/tidegate-protocol/src crates/tidegate-vocabulary/src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs crates/tidegate-bench/src/lib.rs crates/tidegate-document/src/lib.rs crates/tidegate-protocol/src/lib.rs crates/tidegate-vocabulary/src/lib.rs \
    && cargo build --release --locked \
    && rm -r src crates

COPY . .
# Copied files keep their modification times, which may be older than the layer above.
RUN touch src/main.rs src/lib.rs crates/*/src/lib.rs && cargo build --release --locked

# The contents of the final image: the binary, its libraries, CA certificates, a user, and the order of name lookups.
RUN mkdir -p /image/etc/ssl/certs /image/tmp \
    && chmod 1777 /image/tmp \
    && cp target/release/tidegate /image/tidegate \
    && ldd /image/tidegate | grep -o '/[^ ]*' | xargs -I '{}' cp --parents --dereference '{}' /image \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'nonroot:x:65532:65532::/:/' > /image/etc/passwd \
    && echo 'nonroot:x:65532:' > /image/etc/group \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tidegate" \
      org.opencontainers.image.description="The WebSocket edge for NATS" \
      org.opencontainers.image.source="https://github.com/tidegate/tidegate" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
USER 65532:65532
# The default, loopback, cannot be reached from outside a container.
ENV TIDEGATE_HTTP__LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/tidegate"]
CMD ["serve"]
