/**
 * What the server takes in, before a handler sees it: JSON only, nothing that its schema does not name, and no value
 * that is bent until it fits: `"dryRun": "false"` is refused and not taken for true.
 */
import type { FastifyInstance, FastifyRequest, FastifySchema, FastifySchemaValidationError } from 'fastify'
import { UserError } from '../kernel/errors.js'

/** For `fastify({ajv})`. */
export const AJV = { customOptions: { coerceTypes: false, removeAdditional: false, allowUnionTypes: true } } as const

export function addInputRules(server: FastifyInstance): void {
  server.removeContentTypeParser('text/plain')
  server.setSchemaErrorFormatter((errors, where) => new UserError('INPUT_INVALID', problemOf(errors, where)))
  // Schemas say what an answer holds; they do not change it.
  server.setSerializerCompiler(() => (answer) => JSON.stringify(answer))
  server.addHook('preValidation', async (request) => readQuery(request))
}

/**
 * What speaks HTTP takes `.` and `..` out of an address, encoded or not; ids are free, so these two (and any other) may
 * stand in the query instead: `/jobs/-?id=..`.
 */
export interface NamesJob {
  readonly params: { readonly id: string }
  readonly query: { readonly id?: string }
}

export const jobIdIn = ({ params, query }: NamesJob): string => query.id ?? params.id

function problemOf([error]: FastifySchemaValidationError[], where: string): string {
  const { instancePath = '', message = 'is not valid', params = {} } = error ?? {}
  const at = `${where}${instancePath.replaceAll('/', '.')}`
  if (error?.keyword === 'additionalProperties')
    return `${at}: there is no field ${JSON.stringify(String(params['additionalProperty']).slice(0, 60))}; leave it out`
  const { allowedValues } = params
  return `${at}: ${message}${Array.isArray(allowedValues) ? ` (${allowedValues.join(', ')})` : ''}; correct it`
}

/** An address is all text: what its route's schema calls a number or a switch becomes one, and nothing else does. */
function readQuery(request: FastifyRequest): void {
  const { query } = request
  if (typeof query !== 'object' || query === null) return
  for (const [name, type] of typesIn(request.routeOptions.schema)) {
    const text: unknown = Reflect.get(query, name)
    if (typeof text !== 'string') continue
    if (type === 'integer' && /^\d{1,9}$/.test(text)) Reflect.set(query, name, Number(text))
    if (type === 'boolean' && (text === 'true' || text === 'false')) Reflect.set(query, name, text === 'true')
  }
}

function typesIn(schema: FastifySchema | undefined): [string, unknown][] {
  const properties = propertyOf(schema?.querystring, 'properties')
  if (typeof properties !== 'object' || properties === null) return []
  return Object.entries(properties).map(([name, value]: [string, unknown]) => [name, propertyOf(value, 'type')])
}

function propertyOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
