/** Where the proxy listens inside the sandbox; the engine makes the socket (packages/native, engine/network.cc). */
export const PROXY_PORT = 3128

/** What programs inside are told, so that they use the proxy. */
export function proxyEnvironment(): Record<string, string> {
  const http = `http://127.0.0.1:${PROXY_PORT}`
  const noProxy = 'localhost,127.0.0.1,::1'
  return {
    HTTP_PROXY: http,
    HTTPS_PROXY: http,
    http_proxy: http,
    https_proxy: http,
    // With names resolved by the proxy (h): inside there is no name service.
    ALL_PROXY: `socks5h://127.0.0.1:${PROXY_PORT}`,
    all_proxy: `socks5h://127.0.0.1:${PROXY_PORT}`,
    NO_PROXY: noProxy,
    no_proxy: noProxy,
    // fetch and node:http of Node.js 22.21 and 24 use the variables above only when told to.
    NODE_USE_ENV_PROXY: '1',
  }
}
