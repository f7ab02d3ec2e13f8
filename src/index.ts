/** What a user of the library imports. */
export type { ExplainReason, Explanation, JobInfo, JobStatus, NoSuchJob } from './dispatch/explain.js'
export type { JobInput } from './dispatch/job-input.js'
export type { JobListOptions, JobPage, ListedJob } from './dispatch/job-list.js'
export { type AddBulkOptions, type AddOptions, Dispatcher, type FleetStatus } from './dispatcher.js'
export type { WatchdogPresence } from './http/problems.js'
export type { LoopView, RunningJobView, SupervisorView } from './http/read-model.js'
export { FenceLostError, PermanentError, RateLimitedError, UserError, type UserErrorCode } from './kernel/errors.js'
export type { Handler, JobContext, JobLog, JobView } from './kernel/job.js'
export { assertFence } from './launch/node-socket-client.js'
export type { Config } from './platform/config.js'
export { type ConfigSources, loadConfig } from './platform/config-load.js'
export { type ConfigInput, defineConfig, type QueueInput, type SessionInput } from './platform/config-schema.js'
export type { BulkReset, BulkResetOptions, JobCancelled, JobReset, OrderOptions } from './recovery/bullmq-control.js'
export type { Dump, DumpClass, DumpStep, DumpSubject, Sample, SuspendedCall } from './stackdump/dump.js'
export type { Frame } from './stackdump/frames.js'
export type { KernelView } from './stackdump/kernel-view.js'
export type { DumpOptions } from './stackdump/redis-dump-calls.js'
export {
  type LoopOptions,
  type ProcessOptions,
  type Pulse,
  type PulseOptions,
  pulse,
  type Watch,
  type WatchableWorker,
  type Watched,
  type WatchedLoop,
  type WatchOptions,
  watchLoop,
  watchWorker,
} from './watch/index.js'
export type { Incident, Transition } from './watchdog/incident.js'
