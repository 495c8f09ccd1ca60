// Package port is the gossip port: one number, UDP and TCP, that memberlist and
// this project's own watch streams share.
//
// It provides memberlist's transport. A stream's first byte tells whose it is:
// memberlist's begin with a label, an encryption or a message type, our own
// with WatchMagic, and those go to Config.Watch. A stream of memberlist's is
// read whole and checked before memberlist gets it, because memberlist takes
// memory by what a stream claims of its own length (see intake.go). Streams are
// counted and bounded, so that strangers push out one another and nobody else
// (see guard.go). The port encrypts and decrypts, in memberlist's own format,
// with the keys of a Sealer; memberlist sees plain text on both sides. Each
// attempt to join leaves a trace, which turns "failed to join" into a cause and
// a fix (see explain.go). memberlist's log lines get the level that they
// deserve (see log.go).
//
// It promises that a stranger without a key can neither read nor forge a
// message, nor fill the memory, nor flood the log; that every goroutine has
// ended when Shutdown returns; and that a message in a key that is being
// replaced is told to Config.Stale.
//
// It does not know who is a member, which keys there are, or what the messages
// say.
package port
