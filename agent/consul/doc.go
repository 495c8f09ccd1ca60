// Package consul answers the reads of Consul's HTTP API that find services, so
// that what speaks to a Consul agent finds a peer's services unchanged: Consul's
// own Go client, consul-template, Prometheus (consul_sd), and others.
//
//	/v1/catalog/services     /v1/catalog/service/{service}
//	/v1/catalog/nodes        /v1/catalog/node/{node}     /v1/catalog/datacenters
//	/v1/health/service/{service}     /v1/health/checks/{service}
//	/v1/health/node/{node}           /v1/health/state/{state}
//	/v1/agent/self     /v1/status/leader     /v1/status/peers
//
// The shapes are Consul's, CamelCase and all. So are blocking reads (index, wait:
// 5 minutes unless told, 10 at the most, and a little more so that a thousand
// clients do not come back at once), and the filters passing, tag, node-meta and
// near. What would change the meaning of an answer and is not known here, such as
// filter, is refused.
//
// X-Consul-Index is never 0, rises, also over a restart, and moves when the very
// answer that was asked for has changed, not when something else has: a client
// that waits for healthy web servers is not woken by a sick one that comes, goes
// or is deregistered.
//
// An agent that has not joined yet answers lists as a Consul without a leader
// does, with an error: clients then stay with what they have, instead of taking
// the little that it knows for all there is.
//
// What there is not: writes (services are registered with the peer), sessions,
// locks, the key-value store. A member that is not alive fails the check
// serfHealth; a service that drains is in maintenance; the datacenter is the
// cluster's label; nobody leads, and who asks is told of this peer.
//
// It knows nothing of gossip: a Source tells what runs where. New returns the
// routes; who serves them sees to the limits of connections. It starts no
// goroutine.
package consul
