export { createMcpServer } from './server.js'
export { openSession, type ServerOptions } from './session.js'
