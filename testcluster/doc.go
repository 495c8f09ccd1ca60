// Package testcluster is where peer is tested as a whole: a simulated network,
// a Redis that can be stalled and killed, and worlds in which a scenario
// written once runs in virtual time, over loopback, and as real binaries.
//
// It is imported by tests only.
//
// The simulated network ([Net], [Host]) carries datagrams and streams between
// hosts in memory, with latency, loss, one-way cuts, refusals, and hosts that
// crash, lose power or are stopped. It opens no socket, starts no goroutine
// that outlives its work, and blocks only on condition variables, channels and
// timers, so that inside a [testing/synctest] bubble its time is the bubble's.
//
// What it does not simulate: the cost of a processor, congestion, fragments,
// and a stopped process's timers ([Host.Pause] holds all that a process reads
// and sends, but its timers go on).
package testcluster
