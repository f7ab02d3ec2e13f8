import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { doctorLines } from '../../../src/cli/doctor.js'
import type { Finding } from '../../../src/cli/doctor-finding.js'
import { bullmqFindings, parksAfterOutages, programFindings, thresholdFindings } from '../../../src/cli/doctor-local.js'
import { parseConfig } from '../../../src/platform/config-parse.js'
import { tempFolder } from '../../support/cli.js'

const configOf = (input: object) => parseConfig(input, { baseDir: '/', handlersMustExist: false })
const mail = (changes: object) => ({ queues: { mail: { handler: './mail.mjs', ...changes } } })
const session = (changes: object) => configOf({ queues: { agents: { session: { command: '/bin/sh', ...changes } } } })
const textOf = (findings: readonly Finding[]) => findings.map(({ status, found }) => `${status} ${found}`)

describe('the thresholds', () => {
  it('work together as they come', () => {
    expect(textOf(thresholdFindings(configOf(mail({}))))).toEqual(['ok none works against another'])
  })

  it.each([
    [{ noWorkerAfterMs: 4999 }, 'noWorkerAfterMs: 4999 is below heartbeat.timeoutMs (5000)'],
    [{ silentAfterMs: 10_000 }, 'silentAfterMs: 10000 is not above heartbeat.threadBlockedMs (10000)'],
    [{ lockDurationMs: 10_000 }, 'lockDurationMs: half of 10000 is not above heartbeat.loopBlockedMs (5000)'],
  ])('%o work against others', (changes, found) => {
    const [finding, ...others] = thresholdFindings(configOf(mail(changes)))
    expect(finding).toMatchObject({ status: 'problem', found: expect.stringContaining(`queues.mail.${found}`), fix: /./ })
    expect(others).toEqual([])
  })

  it('of a stop and of its sessions are compared, and one lost beat is no death', () => {
    expect(textOf(thresholdFindings(session({ graceMs: 30_001 })))).toEqual([
      expect.stringMatching(/^problem queues\.agents\.session\.graceMs: 30001 is above supervisor\.drainMs/),
    ])
    const beats = configOf({ ...mail({}), heartbeat: { timeoutMs: 2000 } })
    expect(textOf(thresholdFindings(beats))).toEqual([expect.stringMatching(/^advice heartbeat\.timeoutMs: 2000 is below 3/)])
  })
})

describe('the programs of sessions', () => {
  it('are not asked for where no queue has sessions', async () => {
    expect(textOf(await programFindings(configOf(mail({}))))).toEqual(['ok no queue has sessions: none is needed'])
  })

  it('that are there are fine, and those that are not are named', async () => {
    expect(textOf(await programFindings(session({})))).toEqual(['ok all are there for 1 queues of sessions'])
    const missing = await programFindings(session({ command: 'no-such-program-7f3a' }))
    expect(textOf(missing)).toEqual(['problem queues.agents.session: command no-such-program-7f3a: not found on PATH'])
  })

  it('want a repository that has the base', async () => {
    const folder = tempFolder()
    const [finding] = await programFindings(session({ workspace: { git: folder, base: 'main' } }))
    expect(finding).toMatchObject({
      status: 'problem',
      found: expect.stringContaining(`${folder} is no git repository that has main`),
    })
  })
})

describe('the version of BullMQ', () => {
  it.each([
    ['5.81.5', false],
    ['6.0.6', false],
    ['6.0.7', true],
    ['6.1.0', true],
    ['6.3.2', true],
    ['6.3.3', false],
    ['6.7.0', false],
    ['7.0.0', false],
  ])('%s parks after an outage: %s', (version, bad) => {
    expect(parksAfterOutages(version)).toBe(bad)
  })

  it('in the working folder is looked at too', () => {
    const folder = tempFolder()
    expect(bullmqFindings(folder)).toMatchObject([{ status: 'ok', found: expect.stringMatching(/^BullMQ \d+\.\d+\.\d+$/) }])
    const theirs = join(folder, 'node_modules', 'bullmq')
    mkdirSync(theirs, { recursive: true })
    writeFileSync(join(theirs, 'package.json'), JSON.stringify({ name: 'bullmq', version: '6.2.0', main: 'index.js' }))
    writeFileSync(join(theirs, 'index.js'), '')
    expect(bullmqFindings(folder)).toMatchObject([{ status: 'problem', found: 'BullMQ 6.2.0 is installed' }])
  })
})

describe('what the doctor says', () => {
  it('E4 is one line for each finding, whatever stands in it', () => {
    const lines = doctorLines(
      [
        { check: 'redis', status: 'ok', found: 'redis://127.0.0.1:6379' },
        { check: 'keys', status: 'problem', found: 'queue \x1b[2Ja\nb', fix: 'delete it' },
      ],
      { paint: (_, text) => text },
    )
    expect(lines).toEqual(['ok       redis  redis://127.0.0.1:6379', 'PROBLEM  keys   queue \\x1b[2Ja\\x0ab → delete it'])
  })
})
