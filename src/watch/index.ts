/** `unstuck/watch`: what a program imports that runs its own BullMQ workers, or loops of its own. */
export type { WatchableWorker } from './bullmq-internals.js'
export { type Watch, type WatchOptions, watchWorker } from './bullmq-worker-watch.js'
export type { ProcessOptions } from './node-membership.js'
export {
  type LoopOptions,
  type Pulse,
  type PulseOptions,
  pulse,
  type Watched,
  type WatchedLoop,
  watchLoop,
} from './own-loops.js'
