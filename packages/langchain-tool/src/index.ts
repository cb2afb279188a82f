export { createDeltaboxTools, type DeltaboxTools } from './tools.js'
