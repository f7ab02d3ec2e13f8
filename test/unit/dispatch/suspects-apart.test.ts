import { describe, expect, it } from 'vitest'
import { type LoneExecutor, suspectsApart } from '../../../src/dispatch/suspects-apart.js'
import type { ThreadTask } from '../../../src/dispatch/thread-protocol.js'

const TASK: ThreadTask = {
  id: 'j1',
  name: 'mail',
  queue: 'mail',
  data: {},
  group: undefined,
  attempt: 1,
  fence: 1,
  cell: 0,
  claim: 1,
}

function recorder(name: string, log: string[], carries: readonly string[] = []): LoneExecutor {
  return {
    run: async ({ id }) => {
      log.push(`${name} runs ${id}`)
      return { ok: true, json: undefined }
    },
    kill: ({ cell }, reason) => log.push(`${name} kills ${cell}: ${reason}`),
    runs: ({ cell, claim }) => carries.includes(`${cell}/${claim}`),
  }
}

function setup(alone: readonly string[] = []) {
  const log: string[] = []
  return { log, executor: suspectsApart(recorder('threads', log), recorder('alone', log, alone)) }
}

describe('an executor that keeps suspects apart', () => {
  it('runs a suspect alone and every other job in a thread', async () => {
    const { executor, log } = setup()
    await executor.run(TASK, 'token')
    await executor.run({ ...TASK, id: 'j2', alone: true }, 'token')
    await executor.run({ ...TASK, id: 'j3', alone: false }, 'token')
    expect(log).toEqual(['threads runs j1', 'alone runs j2', 'threads runs j3'])
  })

  it('kills a job where it runs', () => {
    const { executor, log } = setup(['4/2'])
    executor.kill({ cell: 4, claim: 2 }, 'job_silent for 9 s')
    executor.kill({ cell: 4, claim: 4 }, 'job_silent for 9 s')
    expect(log).toEqual(['alone kills 4: job_silent for 9 s', 'threads kills 4: job_silent for 9 s'])
  })
})
