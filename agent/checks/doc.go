// Package checks finds out whether the services beside a peer are well: over
// HTTP, TCP or gRPC, or by a sign of life that the service itself gives (TTL).
// It executes nothing on the host.
//
// It knows nothing of gossip: whoever starts a Checker is told when the health
// of a service has changed, and asks for it.
//
// What it promises: a target that is slow, endless, silent or talks garbage
// costs no more than one of the 16 slots for the length of a timeout, and a few
// kilobytes. Nothing that a target sends is shown but its status, so that a
// check is no way to read what only this host can reach. A redirect is not
// followed.
//
// Health is passing, warning or critical. A new check begins critical, and its
// first result decides; from then on it takes Rise results in a row to become
// better and Fall to become worse.
package checks
