/** Whether an answer is what the description of the API says: no field missing, none that is not described. */
import { type FastifyInstance, fastify } from 'fastify'

interface Described {
  readonly paths: Readonly<
    Record<string, Readonly<Record<string, { readonly responses: Readonly<Record<string, { readonly content?: Content }>> }>>>
  >
}

type Content = Readonly<Record<string, { readonly schema: object }>>

export type OpenApi = Described & { readonly openapi: string }

/** @returns what is wrong with the answer; undefined when nothing is */
export async function againstDescription(
  description: OpenApi,
  { method, path, status, body }: { method: string; path: string; status: number; body: unknown },
): Promise<string | undefined> {
  const responses = description.paths[path]?.[method.toLowerCase()]?.responses
  const described = responses?.[String(status)] ?? responses?.[`${Math.floor(status / 100)}XX`]
  const schema = described?.content?.['application/json']?.schema
  if (!schema) return `${method} ${path} → ${status} is not described`
  const server: FastifyInstance = fastify({ ajv: { customOptions: { coerceTypes: false, removeAdditional: false } } })
  server.post('/', { schema: { body: closed(schema) as object } }, async () => ({}))
  const answer = await server.inject({ method: 'POST', url: '/', payload: body as object })
  await server.close()
  return answer.statusCode === 200 ? undefined : `${method} ${path} → ${status}: ${answer.body}`
}

/** The same schema, in which no object holds more than it names. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed)
  if (typeof schema !== 'object' || schema === null) return schema
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]))
  return inner['type'] === 'object' && 'properties' in inner ? { ...inner, additionalProperties: false } : inner
}
