// Package keys holds the gossip keys of one peer: which are in force, the file
// that keeps them, and how they change on every peer while the cluster runs.
//
// It provides a Keyring. It encrypts and decrypts (it is the Sealer of package
// port) and signs what must be known to come from a key holder. InstallKey,
// UseKey, RemoveKey and Rotate change the keys of every member: a command goes
// to each live one over a stream of its own, encrypted and signed with a key
// that both hold, and each answers what came of it, so that the caller knows
// which ones to look after. A rotation installs the new key everywhere, then
// encrypts with it, and lets the old one go after a grace period. A member that
// was absent comes back with the old key in that time, is let in, and is handed
// the new one by whoever it talks to (see handoff.go). A cluster in plain text
// is switched to encryption while it runs (see switch.go).
//
// It promises that a command that was recorded and is sent again changes
// nothing: a command bears an epoch, the time at which it was given, and an
// older one is refused, and so is one signed with an old key, which may be old
// because it leaked. Key material never appears in an error, a log line or a
// String. Members are called with no lock held.
//
// It does not know how members are found, or who is alive: Members tells it.
// Two rotations at the same moment are ordered by their epochs; the loser is
// told so.
package keys
