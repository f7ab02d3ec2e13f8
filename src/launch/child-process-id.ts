/**
 * Which process a number means, and what is left of its group. A number is used again, sooner or later: nothing is ever
 * signalled whose leader started at another time than the one that was written down.
 */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { hasCode } from '../kernel/errors.js'
import type { ProcessId } from './session.js'

const run = promisify(execFile)
const onLinux = process.platform === 'linux'

/** Longest pause between two looks at a group that is ending, milliseconds. */
const LOOK_EVERY_MS = 50
/** Zombies keep a group alive for a signal. They are told apart by a look at every process, when waiting was in vain. */
const ZOMBIES_AFTER_MS = 10

interface Fact {
  readonly pid: number
  readonly group: number
  /** A zombie is dead: its parent has not looked yet. */
  readonly dead: boolean
  readonly startedAt: string
}

let boot: string | undefined

/** Which start of the machine this is: ticks since the boot mean nothing without it. */
function bootId(): string {
  boot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  return boot
}

function factOf(pid: number, stat: string): Fact {
  // The name is in parentheses, and may hold parentheses and spaces itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return {
    pid,
    group: Number(fields[2]),
    dead: fields[0] === 'Z' || fields[0] === 'X',
    startedAt: `${bootId()}:${fields[19] ?? ''}`,
  }
}

/** Fixed in language and time zone, since texts are compared. */
const psEnv = () => ({ ...process.env, LC_ALL: 'C', TZ: 'UTC' })

async function ps(...args: string[]): Promise<string> {
  // It exits with 1 when there is no such process.
  const { stdout } = await run('ps', args, { env: psEnv(), maxBuffer: 64 * 1024 * 1024 }).catch(() => ({ stdout: '' }))
  return stdout
}

/** The kernel's own memory, not a disk: read at once, so that a signal can follow without a gap. */
function factNow(pid: number): Fact | undefined {
  try {
    return factOf(pid, readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return undefined
  }
}

async function factFromPs(pid: number): Promise<Fact | undefined> {
  const [, group, state, startedAt] =
    /^\s*(\d+)\s+(\S+)\s+(.+?)\s*$/m.exec(await ps('-o', 'pgid=,stat=,lstart=', '-p', String(pid))) ?? []
  if (group === undefined || state === undefined || startedAt === undefined) return undefined
  return { pid, group: Number(group), dead: state.startsWith('Z'), startedAt }
}

/** @returns when the process started, if it is there */
export async function startOf(pid: number): Promise<string | undefined> {
  return onLinux ? factNow(pid)?.startedAt : (await factFromPs(pid))?.startedAt
}

/** The same at once, where the system can say it so: of a child of ours even when it has ended, until we look away. */
export function startNow(pid: number): string | undefined {
  return onLinux ? factNow(pid)?.startedAt : undefined
}

/** For a leader that is gone, while others of its group are not. No process ever has it. */
export function startUnknown(): string {
  return onLinux ? `${bootId()}:gone` : 'gone'
}

type Leader = 'ours' | 'gone' | 'other'

function judge(id: ProcessId, fact: Fact | undefined): Leader {
  if (!isUsable(id)) return 'other'
  if (fact) return fact.startedAt !== id.startedAt ? 'other' : fact.dead ? 'gone' : 'ours'
  // While anything of a group lives its number is not given on. Since another boot, anything may have it.
  return onLinux && !id.startedAt.startsWith(`${bootId()}:`) ? 'other' : 'gone'
}

/** Signals to -1, 0 and our own group would reach far more than a session. */
function isUsable({ pid }: ProcessId): boolean {
  return Number.isSafeInteger(pid) && pid > 1 && pid !== process.pid
}

/** Whether the process, or anything of its group, runs. */
export async function isAlive(id: ProcessId): Promise<boolean> {
  const leader = judge(id, onLinux ? factNow(id.pid) : await factFromPs(id.pid))
  if (leader !== 'gone') return leader === 'ours'
  return groupIsThere(id.pid) && (await livingGroups()).has(id.pid)
}

/** Whether the process itself runs. */
export async function leaderIsAlive(id: ProcessId): Promise<boolean> {
  return judge(id, onLinux ? factNow(id.pid) : await factFromPs(id.pid)) === 'ours'
}

/** To the whole group; to nobody when it is gone, or another's. On Linux it is sent before this returns. */
export async function signalGroup(id: ProcessId, signal: NodeJS.Signals): Promise<void> {
  if (judge(id, onLinux ? factNow(id.pid) : await factFromPs(id.pid)) === 'other') return
  signalOwnGroup(id.pid, signal)
}

/** To a group that is known to be ours: our child leads it, and its end has not been told to us yet. */
export function signalOwnGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // Gone, or not ours to signal: whoever waits for its end will see that.
  }
}

function groupIsThere(pid: number): boolean {
  try {
    return process.kill(-pid, 0)
  } catch (error) {
    return hasCode(error, 'EPERM')
  }
}

/** Waits until nothing of the group is left. @returns whether that came within the limit, milliseconds */
export async function isEmptied(id: ProcessId, limitMs: number): Promise<boolean> {
  const began = performance.now()
  for (let pauseMs = 1; groupIsThere(id.pid); pauseMs = Math.min(2 * pauseMs, LOOK_EVERY_MS)) {
    const waitedMs = performance.now() - began
    if (waitedMs > ZOMBIES_AFTER_MS && !(await isAlive(id))) return true
    if (waitedMs > limitMs) return false
    await new Promise((done) => setTimeout(done, pauseMs))
  }
  return true
}

let nextScan: Promise<ReadonlySet<number>> | undefined
let lastScan: Promise<unknown> = Promise.resolve()

/** The groups that have a living member. Many sessions that end together share one look that began after they asked. */
function livingGroups(): Promise<ReadonlySet<number>> {
  nextScan ??= lastScan.then(() => {
    const scan = allProcesses()
    nextScan = undefined
    lastScan = scan.catch(() => undefined)
    return scan.then((facts) => new Set(facts.filter(({ dead }) => !dead).map(({ group }) => group)))
  })
  return nextScan
}

async function allProcesses(): Promise<Fact[]> {
  if (onLinux) return (await pids()).flatMap((pid) => factNow(pid) ?? [])
  const lines = (await ps('-A', '-o', 'pid=,pgid=,stat=')).split('\n').map((line) => line.trim().split(/\s+/))
  return lines.map(([pid, group, state]) => ({
    pid: Number(pid),
    group: Number(group),
    dead: state?.startsWith('Z') ?? false,
    startedAt: '',
  }))
}

async function pids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
}

/**
 * Looks for a process by its command line.
 * @param fits told the arguments one by one where the system keeps them apart, else as one text
 * @returns its group's leader
 */
export async function findGroup(fits: (args: readonly string[]) => boolean): Promise<ProcessId | undefined> {
  const group = onLinux ? await groupFromProc(fits) : await groupFromPs(fits)
  return group === undefined ? undefined : { pid: group, startedAt: (await startOf(group)) ?? startUnknown() }
}

async function groupFromProc(fits: (args: readonly string[]) => boolean): Promise<number | undefined> {
  for (const pid of await pids()) {
    const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
    const fact = fits(args) ? factNow(pid) : undefined
    if (fact && !fact.dead) return fact.group
  }
  return undefined
}

async function groupFromPs(fits: (args: readonly string[]) => boolean): Promise<number | undefined> {
  // A script's newlines are in there too: a process begins where two numbers do.
  for (const text of (await ps('-A', '-ww', '-o', 'pid=,pgid=,command=')).split(/\n(?=\s*\d+\s+\d+ )/)) {
    const [, group, command] = /^\s*\d+\s+(\d+) (.*)$/s.exec(text) ?? []
    if (group !== undefined && command !== undefined && fits([command])) return Number(group)
  }
  return undefined
}
