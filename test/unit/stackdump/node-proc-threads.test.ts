import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, expect, it, onTestFinished } from 'vitest'
import { canReadThreads, ownTid, readThread, subtreeOf, viewThread } from '../../../src/stackdump/node-proc-threads.js'

describe.runIf(canReadThreads())('the threads of this process, as the kernel shows them', () => {
  it('this one is on a processor', () => {
    const tid = ownTid()
    expect(tid).toBeGreaterThan(0)
    expect(viewThread(tid ?? 0)).toMatchObject({ tid, state: 'on-cpu' })
  })

  it('one that is not there says nothing', () => {
    expect(readThread(2 ** 30)).toBeUndefined()
    expect(viewThread(2 ** 30)).toBeUndefined()
    expect(subtreeOf(2 ** 30)).toEqual([])
  })

  it('one that started processes names them, their children too, but not their arguments', async () => {
    const child = spawn('sh', ['-c', 'echo up; sleep 30; :'], { stdio: ['ignore', 'pipe', 'ignore'], detached: true })
    onTestFinished(() => {
      process.kill(-(child.pid ?? 0), 'SIGKILL')
    })
    await once(child.stdout, 'data')
    const tid = ownTid() ?? 0
    expect(subtreeOf(tid)).toContain(child.pid)
    expect(JSON.stringify(viewThread(tid)?.children)).not.toContain('30;')
    expect(viewThread(tid)?.children).toContainEqual(expect.objectContaining({ pid: child.pid, name: 'sh' }))
  })
})
