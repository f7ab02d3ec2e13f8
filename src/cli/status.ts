/** `unstuck status`, `explain` and `incidents`: what the fleet looks like now. They read and change nothing. */
import type { Command } from 'commander'
import type { Explanation } from '../dispatch/explain.js'
import type { FleetStatus } from '../dispatcher.js'
import { breakerText, type LoopView, type SupervisorView } from '../http/read-model.js'
import type { Incident, Transition } from '../watchdog/incident.js'
import { type CliContext, contextOf } from './context.js'
import { EXIT } from './exit.js'
import { duration, printable, type Terminal, table } from './terminal.js'

/** So many transitions are looked through for closed incidents. */
const RECENT_TRANSITIONS = 500

export function addStatusCommands(program: Command): void {
  program
    .command('status')
    .description('supervisors, loops, queues and open incidents; exit code 1 when anything is wrong')
    .action(async (_: object, command: Command) => {
      const context = contextOf(command)
      await context.withDispatcher(await context.config({ handlersMustExist: false }), async (dispatcher) => {
        const status = await dispatcher.status()
        if (context.json) context.printJson(status)
        else for (const line of statusLines(status, context.terminal)) context.terminal.line(line)
        context.finish(status.problems.length > 0 ? EXIT.problem : EXIT.fine)
      })
    })
  program
    .command('explain <queue> <jobid>')
    .description('why a job is not running, or what it does now and since when')
    .action(async (queue: string, id: string, _: object, command: Command) => {
      const context = contextOf(command)
      await context.withDispatcher(await context.config({ handlersMustExist: false }), async (dispatcher) => {
        const explanation = await dispatcher.explain(queue, id)
        if (context.json) context.printJson(explanation)
        else for (const line of explanationLines(explanation)) context.terminal.line(line)
        context.finish(explanation.reason === 'not_found' ? EXIT.problem : EXIT.fine)
      })
    })
  program
    .command('incidents')
    .description('what is and was stuck, since when, for how long')
    .option('--open', 'only those that are open')
    .action(async ({ open }: { open?: boolean }, command: Command) => listIncidents(contextOf(command), open === true))
}

async function listIncidents(context: CliContext, onlyOpen: boolean): Promise<void> {
  await context.withDispatcher(await context.config({ handlersMustExist: false }), async (dispatcher) => {
    const { incidents } = await dispatcher.status()
    const closed = onlyOpen
      ? []
      : (await dispatcher.transitions(RECENT_TRANSITIONS)).filter((transition) => transition.event === 'resumed')
    if (context.json) {
      context.printJson([
        ...incidents,
        ...closed.map(({ incident, outcome, durationMs }) => ({ ...incident, outcome, durationMs })),
      ])
      return
    }
    const lines = incidentLines(incidents, closed)
    if (lines.length === 0) context.terminal.line(onlyOpen ? 'no open incident' : 'no incident')
    for (const line of lines) context.terminal.line(line)
  })
}

type End = Extract<Transition, { event: 'resumed' }>

/** @param closed the ends of those that are over */
export function incidentLines(open: readonly Incident[], closed: readonly End[]): string[] {
  const rows = [...open.map((incident) => ({ incident, end: undefined })), ...closed.map((end) => ({ ...end, end }))]
  if (rows.length === 0) return []
  const title = ['SINCE', 'SUBJECT', 'CAUSE', 'FOR', 'OUTCOME', 'DOING', 'AT', 'DUMP']
  return table([title, ...rows.map(({ incident, end }) => [...incidentRow(incident, end), ...dumpCells(incident)])])
}

/** Where its own code was when it got stuck, and the dump that says more: `unstuck dump --id` shows it. */
function dumpCells({ topFrame = '', dumpId = '' }: Incident): string[] {
  return [printable(topFrame), printable(dumpId)]
}

function incidentRow(incident: Incident, end?: End): string[] {
  const { since, subject, cause, phase, jobId } = incident
  const doing = [jobId === undefined ? '' : `job ${jobId}`, phase ?? ''].filter(Boolean).join(', ')
  const lasted = end ? end.durationMs : Date.now() - Date.parse(since)
  return [
    since.slice(0, 19).replace('T', ' '),
    printable(subject),
    cause,
    duration(Math.max(0, lasted)),
    end?.outcome ?? 'open',
    printable(doing),
  ]
}

function explanationLines(explanation: Explanation): string[] {
  const { queue, id, why, lastError } = explanation
  const last = lastError === undefined || why.includes(lastError) ? '' : ` (last error: ${lastError})`
  const output = 'output' in explanation ? (explanation.output ?? '').trimEnd() : ''
  const shown =
    output === '' ? [] : ['last output of its session:', ...output.split('\n').map((line) => `  ${printable(line)}`)]
  return [printable(`job:${queue}/${id}: ${why}${last}`), ...shown]
}

/** The page that a person reads. */
export function statusLines(status: FleetStatus, terminal: Pick<Terminal, 'paint'>): string[] {
  const { supervisors, queues, incidents, watchdogs, problems } = status
  const title = (text: string) => terminal.paint('bold', text)
  const verdict =
    problems.length === 0
      ? [terminal.paint('green', 'all is well')]
      : problems.map((text) => terminal.paint('red', `! ${printable(text)}`))
  return [
    ...verdict,
    '',
    title('supervisors'),
    ...(supervisors.length === 0
      ? ['  none']
      : indented([['NAME', 'STATE', 'BEAT', 'SLOTS', 'LOOPS'], ...supervisors.map(supervisorRow)])),
    '',
    title('queues'),
    ...(queues.length === 0
      ? ['  none']
      : indented([
          ['NAME', 'WAITING', 'ACTIVE', 'DELAYED', 'COMPLETED', 'FAILED', 'EXHAUSTED', 'BREAKER', 'WORKERS', ''],
          ...queues.map(queueRow),
        ])),
    '',
    title('open incidents'),
    ...(incidents.length === 0
      ? ['  none']
      : indented([
          ['SINCE', 'SUBJECT', 'CAUSE', 'FOR', '', 'DOING'],
          ...incidents.map((incident) => incidentRow({ ...incident })),
        ])),
    '',
    title('watchdogs'),
    ...(watchdogs.length === 0
      ? ['  none']
      : indented(watchdogs.map(({ id, silentMs }) => [printable(id), `last cycle ${duration(silentMs)} ago`]))),
  ]
}

const indented = (rows: readonly (readonly string[])[]): string[] => table(rows).map((line) => `  ${line}`)

function supervisorRow({ name, state, heartbeatAgeMs, slots, loops }: SupervisorView): string[] {
  const busy = slots.map(({ queue, busy, size }) => `${queue} ${busy}/${size}`).join(', ')
  return [printable(name), state, `${duration(heartbeatAgeMs)} ago`, busy, loops.map(loopText).join(', ')]
}

function queueRow({ queue, breakersOpen, eligible, paused, ...facts }: FleetStatus['queues'][number]): string[] {
  const { waiting, active, delayed, completed, failed, exhausted } = facts
  return [
    queue,
    ...[waiting, active, delayed, completed, failed, exhausted].map(String),
    printable(breakerText(breakersOpen)),
    String(eligible),
    paused ? 'paused' : '',
  ]
}

function loopText({ loop, queue, state, stale, phase, lagMs }: LoopView): string {
  const name = queue === undefined ? loop : `${loop}:${queue}`
  return stale ? `${name} STALE for ${duration(lagMs)} in ${printable(phase)}` : `${name} ${state}`
}
