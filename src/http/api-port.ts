/** What the routes ask of queues, jobs and supervisors beyond the read model. A `Dispatcher` is one. */
import type { JobInfo } from '../dispatch/explain.js'
import type { JobInput } from '../dispatch/job-input.js'
import type { JobListOptions, JobPage } from '../dispatch/job-list.js'
import type { BulkReset, BulkResetOptions, JobCancelled, JobReset, OrderOptions } from '../recovery/bullmq-control.js'
import type { Dump } from '../stackdump/dump.js'
import type { DumpOptions } from '../stackdump/redis-dump-calls.js'

/** Every call ends within 2 s when Redis is away: `REDIS_UNREACHABLE`. */
export interface Api {
  jobs(queue: string, options: JobListOptions): Promise<JobPage>
  job(queue: string, id: string): Promise<JobInfo>
  /** @param queue only in this one. @returns none when there is none */
  find(id: string, queue?: string): Promise<JobInfo[]>
  addBulk(queue: string, jobs: readonly JobInput[]): Promise<string[]>
  reset(queue: string, id: string, options: OrderOptions): Promise<JobReset>
  resetAll(queue: string, options: BulkResetOptions): Promise<BulkReset>
  cancel(queue: string, id: string, options: OrderOptions): Promise<JobCancelled>
  /** @returns whether that changed anything */
  pause(queue: string, options: OrderOptions): Promise<boolean>
  resume(queue: string, options: OrderOptions): Promise<boolean>
  /** @returns how many jobs it runs now */
  drain(supervisor: string, options: Pick<OrderOptions, 'dryRun'>): Promise<number>
  dump(supervisor: string, options: DumpOptions): Promise<Dump[]>
  readDump(id: string): Promise<Dump | undefined>
}
