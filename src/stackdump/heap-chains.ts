/**
 * Finds the suspended async functions in a V8 heap snapshot, and who awaits whom. Pure, but for the time that it takes.
 *
 * A suspended function is a generator object that keeps its registers. Its own promise leads, through the reaction that
 * waits for it, to the context of an await, and that context's extension is the generator that awaits:
 * promise → PromiseReaction → closure → Context → generator. Promise.all and .then() only put more of these in between.
 */

/** The parts of a snapshot that are used; made with `exposeInternals`. */
export interface HeapSnapshot {
  readonly snapshot: {
    readonly node_count: number
    readonly meta: {
      readonly node_fields: readonly string[]
      readonly node_types: readonly unknown[]
      readonly edge_fields: readonly string[]
      readonly edge_types: readonly unknown[]
    }
  }
  readonly nodes: readonly number[]
  readonly edges: readonly number[]
  readonly strings: readonly string[]
}

/** A suspended async function; `objectId` is by what the inspector finds it on the heap. */
export interface SuspendedFunction {
  readonly fn: string
  /** Address of its script. */
  readonly url: string
  readonly objectId: number
}

/** From a function that waits for something else to the outermost that waits for it. */
export type SuspendedChain = readonly SuspendedFunction[]

const MAX_CHAINS = 200
const MAX_LENGTH = 32
/** How many objects lie between a promise and who awaits it, at most; Promise.all takes about ten. */
const MAX_VISITS = 300

export function suspendedChains(snapshot: HeapSnapshot): SuspendedChain[] {
  const graph = new HeapGraph(snapshot)
  const suspended = graph.suspended()
  const awaiterOf = new Map<number, number>()
  for (const node of suspended) {
    const awaiter = graph.awaiterOf(node, suspended)
    if (awaiter !== undefined) awaiterOf.set(node, awaiter)
  }
  const awaiting = new Set(awaiterOf.values())
  const innermost = [...suspended].filter((node) => !awaiting.has(node)).slice(0, MAX_CHAINS)
  return innermost.map((node) => chainFrom(node, awaiterOf).map((one) => graph.functionOf(one)))
}

function chainFrom(start: number, awaiterOf: ReadonlyMap<number, number>): number[] {
  const chain: number[] = []
  for (let node: number | undefined = start; node !== undefined && chain.length < MAX_LENGTH; node = awaiterOf.get(node)) {
    if (chain.includes(node)) break
    chain.push(node)
  }
  return chain
}

interface Edge {
  readonly type: string
  readonly name: string
  readonly to: number
}

/** What may lie between a promise and an awaiting function. User contexts hold variables and lead astray. */
const BETWEEN = new Set(['Promise', 'system / PromiseReaction', 'system / PromiseCapability', 'system / AsyncGeneratorRequest'])

class HeapGraph {
  readonly #heap: HeapSnapshot
  readonly #nodeSize: number
  readonly #edgeSize: number
  readonly #nodeTypes: readonly string[]
  readonly #edgeTypes: readonly string[]
  /** Index of the first edge of each node. */
  readonly #firstEdge: Uint32Array
  readonly #at: { readonly type: number; readonly name: number; readonly id: number; readonly edges: number }

  constructor(heap: HeapSnapshot) {
    this.#heap = heap
    const { meta, node_count: count } = heap.snapshot
    this.#nodeSize = meta.node_fields.length
    this.#edgeSize = meta.edge_fields.length
    this.#nodeTypes = meta.node_types[0] as string[]
    this.#edgeTypes = meta.edge_types[0] as string[]
    const field = (name: string) => meta.node_fields.indexOf(name)
    this.#at = { type: field('type'), name: field('name'), id: field('id'), edges: field('edge_count') }
    this.#firstEdge = new Uint32Array(count + 1)
    for (let node = 0; node < count; node += 1) {
      this.#firstEdge[node + 1] = (this.#firstEdge[node] ?? 0) + this.#field(node, this.#at.edges)
    }
  }

  /** Functions of async kind that are suspended; plain generators have no promise. */
  suspended(): Set<number> {
    const found = new Set<number>()
    const registers = this.#heap.strings.indexOf('parameters_and_registers')
    if (registers < 0) return found
    for (let node = 0; node < this.#heap.snapshot.node_count; node += 1) {
      if (this.#typeOf(node) !== 'object' || !this.#hasEdgeNamed(node, registers)) continue
      if (this.#edges(node).some((edge) => this.#isOwnPromise(edge))) found.add(node)
    }
    return found
  }

  awaiterOf(node: number, suspended: ReadonlySet<number>): number | undefined {
    const queue = this.#edges(node).flatMap((edge) => (this.#isOwnPromise(edge) ? [edge.to] : []))
    const seen = new Set(queue)
    for (let next = queue.shift(); next !== undefined && seen.size < MAX_VISITS; next = queue.shift()) {
      for (const edge of this.#edges(next)) {
        if (edge.name === 'extension' && edge.to !== node && suspended.has(edge.to)) return edge.to
        if (seen.has(edge.to) || !this.#leadsOn(next, edge)) continue
        seen.add(edge.to)
        queue.push(edge.to)
      }
    }
    return undefined
  }

  functionOf(node: number): SuspendedFunction {
    const closure = this.#target(node, 'function')
    const shared = closure === undefined ? undefined : this.#target(closure, 'shared')
    const script = shared === undefined ? undefined : this.#target(shared, 'script', 'script_or_debug_info')
    return {
      fn: (closure === undefined ? '' : this.#nameOf(closure)) || '(anonymous)',
      url: script === undefined ? '' : this.#nameOf(script),
      objectId: this.#field(node, this.#at.id),
    }
  }

  #isOwnPromise({ type, to }: Edge): boolean {
    return type === 'hidden' && /^(Promise|system \/ AsyncGeneratorRequest)$/.test(this.#nameOf(to))
  }

  #leadsOn(from: number, { type, name, to }: Edge): boolean {
    const target = this.#nameOf(to)
    if (this.#nameOf(from) === 'Promise') return name === 'reactions_or_result' && target === 'system / PromiseReaction'
    if (this.#typeOf(from) === 'closure') return name === 'context' && target === 'system / Context'
    // Contexts of V8's own closures hold hidden fields, those of a program named ones.
    return type === 'hidden' && (BETWEEN.has(target) || this.#typeOf(to) === 'closure')
  }

  #target(node: number, ...names: readonly string[]): number | undefined {
    return this.#edges(node).find(({ name }) => names.includes(name))?.to
  }

  #hasEdgeNamed(node: number, name: number): boolean {
    const end = this.#firstEdge[node + 1] ?? 0
    for (let edge = this.#firstEdge[node] ?? 0; edge < end; edge += 1) {
      if (this.#heap.edges[edge * this.#edgeSize + 1] === name && this.#edgeTypeOf(edge) === 'internal') return true
    }
    return false
  }

  #edges(node: number): Edge[] {
    const edges: Edge[] = []
    const end = this.#firstEdge[node + 1] ?? 0
    for (let edge = this.#firstEdge[node] ?? 0; edge < end; edge += 1) {
      const at = edge * this.#edgeSize
      const type = this.#edgeTypeOf(edge)
      const name = this.#heap.edges[at + 1] ?? 0
      const isIndex = type === 'element' || type === 'hidden'
      const to = (this.#heap.edges[at + 2] ?? 0) / this.#nodeSize
      edges.push({ type, name: isIndex ? String(name) : (this.#heap.strings[name] ?? ''), to })
    }
    return edges
  }

  #edgeTypeOf(edge: number): string {
    return this.#edgeTypes[this.#heap.edges[edge * this.#edgeSize] ?? -1] ?? ''
  }

  #typeOf(node: number): string {
    return this.#nodeTypes[this.#field(node, this.#at.type)] ?? ''
  }

  #nameOf(node: number): string {
    return this.#heap.strings[this.#field(node, this.#at.name)] ?? ''
  }

  #field(node: number, offset: number): number {
    return this.#heap.nodes[node * this.#nodeSize + offset] ?? 0
  }
}
