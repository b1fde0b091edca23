/**
 * Stands in for `trpc-openapi` while the SDK's types are bundled: how a procedure looks in the OpenAPI document is of no
 * use to a client, and the real types would bring a web framework along.
 */
export type OpenApiMeta = { openapi?: object };
