/**
 * Ghosts: sessions of which only the record knows, since the supervisor that started them is gone. Every supervisor looks
 * for those of its own host, in the queues that it serves. Where the queue says so a ghost that runs, or has left its
 * exit code, is adopted together with its attempt; else what is left of it is ended and removed. Its job is given back
 * by whoever reaps orphans, on this host or another, and bears the next fence then.
 *
 * Also its own left-overs: a session whose undo or clean-up failed half-way.
 */
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import { layToRest, type RestPorts } from '../launch/lay-to-rest.js'
import type { SessionRecord } from '../launch/session.js'
import type { GhostRecords } from '../launch/session-records.js'
import { isLost, type OwnerName, ownerName, parseOwner } from './orphan-policy.js'

export interface GhostPorts extends RestPorts {
  readonly records: GhostRecords
  beats(supervisors: readonly string[]): Promise<Map<string, SeenBeat>>
}

/** A queue of sessions, as the finder needs it. */
export interface GhostQueue {
  readonly queue: string
  readonly orphans: 'kill' | 'adopt'
  /** Between TERM and KILL, milliseconds. */
  readonly graceMs: number
  /** What crashed stays for a person to look at. */
  readonly keep: boolean
  /** Whether a session is one that runs here. */
  knows(record: SessionRecord): boolean
  /** Goes on with its attempt, whose claim is ours by now. */
  adopt(record: SessionRecord, token: string): void
}

export interface GhostsFound {
  readonly adopted: readonly SessionRecord[]
  readonly ended: readonly SessionRecord[]
}

/**
 * @param judges whether silence of others proves anything now; a former incarnation of our own name is gone in any case
 * @param onError told of each that could not be dealt with; it is tried again in the next cycle
 */
export async function findGhosts(
  queue: GhostQueue,
  me: OwnerName,
  judges: boolean,
  ports: GhostPorts,
  onError: (error: unknown) => void,
): Promise<GhostsFound> {
  const records = (await ports.records.list(queue.queue)).filter((record) => !queue.knows(record))
  const others = new Set(records.flatMap(({ owner }) => parseOwner(owner)?.supervisor ?? []))
  others.delete(me.supervisor)
  const beats = judges && others.size > 0 ? await ports.beats([...others]) : new Map<string, SeenBeat>()
  const isGhost = ({ owner }: SessionRecord): boolean => {
    const name = parseOwner(owner)
    if (!name || name.supervisor === me.supervisor) return true
    return judges && isLost(name, beats.get(name.supervisor))
  }
  const adopted: SessionRecord[] = []
  const ended: SessionRecord[] = []
  await Promise.all(
    records.filter(isGhost).map(async (ghost) => {
      try {
        if (queue.orphans === 'adopt' && (await adoptGhost(queue, ghost, me, ports))) adopted.push(ghost)
        else if (await endGhost(queue, ghost, me, ports)) ended.push(ghost)
      } catch (error) {
        onError(error)
      }
    }),
  )
  return { adopted, ended }
}

async function adoptGhost(queue: GhostQueue, ghost: SessionRecord, me: OwnerName, ports: GhostPorts): Promise<boolean> {
  if (!ghost.process || isOf(me, ghost)) return false
  const token = await ports.records.adopt(ghost)
  if (token === undefined) return false
  queue.adopt({ ...ghost, owner: ownerName(me) }, token)
  return true
}

async function endGhost(
  { graceMs, keep }: GhostQueue,
  ghost: SessionRecord,
  me: OwnerName,
  ports: GhostPorts,
): Promise<boolean> {
  if (!(await ports.records.takeOver(ghost))) return false
  await layToRest({ ...ghost, owner: ownerName(me) }, ports, { graceMs, keep })
  return true
}

function isOf(me: OwnerName, { owner }: SessionRecord): boolean {
  return parseOwner(owner)?.incarnation === me.incarnation
}
