/** What `unstuck doctor` can tell without Redis: thresholds that work against each other, programs, BullMQ's version. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { messageOf } from '../kernel/errors.js'
import { findProgram } from '../launch/child-program.js'
import type { Config, QueueConfig, SessionConfig } from '../platform/config.js'
import type { Finding } from './doctor-finding.js'

/** Each is fine alone, and config loading takes them; together they say the wrong thing, or say it too late. */
export function thresholdFindings(config: Config): Finding[] {
  const { heartbeat } = config
  const findings = Object.entries(config.queues).flatMap(([name, queue]) => queueThresholds(name, queue, config))
  if (heartbeat.timeoutMs < 3 * heartbeat.intervalMs) {
    const found = `heartbeat.timeoutMs: ${heartbeat.timeoutMs} is below 3 × heartbeat.intervalMs, so one lost beat is a death`
    findings.push({ check: 'thresholds', status: 'advice', found, fix: `raise it to ${3 * heartbeat.intervalMs}` })
  }
  return findings.length > 0 ? findings : [{ check: 'thresholds', status: 'ok', found: 'none works against another' }]
}

function queueThresholds(name: string, queue: QueueConfig, { heartbeat, supervisor }: Config): Finding[] {
  const findings: Finding[] = []
  const refuse = (key: string, why: string, fix: string) =>
    findings.push({ check: 'thresholds', status: 'problem', found: `queues.${name}.${key}: ${why}`, fix })
  const { silentAfterMs, noWorkerAfterMs, lockDurationMs, session } = queue
  const { timeoutMs, threadBlockedMs, loopBlockedMs } = heartbeat
  if (noWorkerAfterMs < timeoutMs) {
    const why = `${noWorkerAfterMs} is below heartbeat.timeoutMs (${timeoutMs}), so a supervisor that dies is told as its queue's trouble first`
    refuse('noWorkerAfterMs', why, `raise it above ${timeoutMs}`)
  }
  if (silentAfterMs <= threadBlockedMs) {
    const why = `${silentAfterMs} is not above heartbeat.threadBlockedMs (${threadBlockedMs}), so a blocked thread is told as a silent job`
    refuse('silentAfterMs', why, `raise it above ${threadBlockedMs}`)
  }
  if (lockDurationMs / 2 <= loopBlockedMs) {
    const why = `half of ${lockDurationMs} is not above heartbeat.loopBlockedMs (${loopBlockedMs}), so locks run out before anybody is told why`
    refuse('lockDurationMs', why, `raise it above ${2 * loopBlockedMs}`)
  }
  if (session && session.graceMs > supervisor.drainMs) {
    const why = `${session.graceMs} is above supervisor.drainMs (${supervisor.drainMs}), so a stop kills sessions within their grace`
    refuse('session.graceMs', why, 'lower it, or raise supervisor.drainMs')
  }
  return findings
}

const run = promisify(execFile)
const PROGRAM_WITHIN_MS = 10_000

/** What the sessions of the config start. */
export async function programFindings(config: Config): Promise<Finding[]> {
  const sessions = Object.entries(config.queues).flatMap(([name, { session }]) => (session ? [{ name, session }] : []))
  if (sessions.length === 0) return [{ check: 'programs', status: 'ok', found: 'no queue has sessions: none is needed' }]
  const findings = await Promise.all(sessions.map(({ name, session }) => sessionFindings(name, session)))
  const problems = findings.flat()
  return problems.length > 0
    ? problems
    : [{ check: 'programs', status: 'ok', found: `all are there for ${sessions.length} queues of sessions` }]
}

async function sessionFindings(queue: string, { command, tmux, workspace }: SessionConfig): Promise<Finding[]> {
  const wanted = [
    { program: command, fix: 'install it, or correct session.command' },
    ...(tmux ? [{ program: 'tmux', fix: 'install tmux, or set session.tmux to false' }] : []),
    ...(workspace.git === undefined ? [] : [{ program: 'git', fix: 'install git' }]),
  ]
  const missing = await Promise.all(wanted.map(({ program, fix }) => missingProgram(queue, program, fix)))
  const problems = missing.flat()
  if (workspace.git === undefined || problems.some(({ found }) => found.includes('command git:'))) return problems
  return [...problems, ...(await repositoryFindings(queue, workspace.git, workspace.base ?? 'HEAD'))]
}

async function missingProgram(queue: string, program: string, fix: string): Promise<Finding[]> {
  try {
    await findProgram(program, { PATH: process.env['PATH'] ?? '' })
    return []
  } catch (error) {
    const [found = ''] = messageOf(error).split(';')
    return [{ check: 'programs', status: 'problem', found: `queues.${queue}.session: ${found}`, fix }]
  }
}

async function repositoryFindings(queue: string, repository: string, base: string): Promise<Finding[]> {
  try {
    await run('git', ['-C', repository, 'rev-parse', '--verify', '--quiet', `${base}^{commit}`], { timeout: PROGRAM_WITHIN_MS })
    return []
  } catch {
    const found = `queues.${queue}.session.workspace: ${repository} is no git repository that has ${base}`
    return [
      { check: 'programs', status: 'problem', found, fix: 'correct workspace.git or workspace.base, or commit something' },
    ]
  }
}

/** BullMQ 6.0.7 to 6.3.2: workers park after Redis was away, and take no jobs until they are started again. */
const PARKS = { from: [6, 0, 7], to: [6, 3, 2] } as const

export function parksAfterOutages(version: string): boolean {
  const parts = version.split('.').map((part) => Number.parseInt(part, 10))
  return compared(parts, PARKS.from) >= 0 && compared(parts, PARKS.to) <= 0
}

function compared(version: readonly number[], other: readonly number[]): number {
  for (const [place, part] of other.entries()) {
    const difference = (version[place] ?? 0) - part
    if (difference !== 0) return difference
  }
  return 0
}

export const BULLMQ_FIX = 'use 6.3.3 or newer, or 5.x: from 6.0.7 to 6.3.2 workers park after Redis was away'

/** BullMQ as this program has it, and as the program in the working folder has it. */
export function bullmqFindings(folder: string): Finding[] {
  const own = installedVersion(import.meta.url)
  const theirs = installedVersion(join(folder, 'package.json'))
  const bad = [...new Set([own, theirs])].filter((version) => version !== undefined && parksAfterOutages(version))
  if (bad.length > 0)
    return [{ check: 'bullmq', status: 'problem', found: `BullMQ ${bad.join(' and ')} is installed`, fix: BULLMQ_FIX }]
  const beside = theirs === undefined || theirs === own ? '' : `, and ${theirs} in ${folder}`
  return [{ check: 'bullmq', status: own === undefined ? 'unknown' : 'ok', found: `BullMQ ${own ?? '?'}${beside}` }]
}

/** @param from a module's address or path: what it would import */
function installedVersion(from: string): string | undefined {
  try {
    let folder = dirname(createRequire(from).resolve('bullmq'))
    while (dirname(folder) !== folder) {
      const version = versionIn(join(folder, 'package.json'))
      if (version !== undefined) return version
      folder = dirname(folder)
    }
  } catch {
    // Not installed there.
  }
  return undefined
}

function versionIn(manifest: string): string | undefined {
  try {
    const { name, version } = JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string; version?: string }
    return name === undefined ? undefined : version
  } catch {
    return undefined
  }
}
