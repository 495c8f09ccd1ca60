package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/peerhq/peer/cluster/internal/keys"
)

// KeyInfo tells of one gossip key, never the key itself.
type KeyInfo struct {
	Fingerprint string
	Primary     bool      // it encrypts; the others only decrypt
	Until       time.Time // an old key goes then; zero: it stays
}

// KeyOutcome tells what one member made of a command.
type KeyOutcome struct {
	Name string
	Addr netip.AddrPort
	Keys []string // the fingerprints that it has now, its primary first
	Note string   // it did as told, but something needs a human
	Err  error    // nil when it did as told
}

// KeyReport tells what came of a command to the whole cluster.
type KeyReport struct {
	Fingerprint string       // of the key that it was about
	Members     []KeyOutcome // this peer and all that are alive or suspect, by name
	// Absent are the names of those that are known and were not there. They are
	// let in with the old key until Until.
	Absent []string
	Until  time.Time // zero when no key became old
}

// Err returns what went wrong at any member, nil if all did as told.
func (r KeyReport) Err() error {
	var errs []error
	for _, m := range r.Members {
		if m.Err != nil {
			errs = append(errs, fmt.Errorf("%s at %s: %w", m.Name, m.Addr, m.Err))
		}
	}
	return errors.Join(errs...)
}

var (
	// ErrPlainGossip: keys are sent over encrypted gossip only.
	ErrPlainGossip = keys.ErrPlain
	// ErrUnknownKey: no installed key has that fingerprint.
	ErrUnknownKey = keys.ErrUnknown
	// ErrPrimaryKey: the key that encrypts cannot be removed.
	ErrPrimaryKey = keys.ErrPrimary
	// ErrSealing: gossip is just being switched to encryption.
	ErrSealing = keys.ErrSwitching
)

// ReadKeyFile returns the gossip keys in the file at path, of which the first
// encrypts and all decrypt. The file holds one key a line, in base64, of 16,
// 24 or 32 bytes; '#' begins a comment. A file that anybody but its owner may
// read is refused, and so is one without a key or with anything that is not
// one; the error says what to do and never what the file contains.
func ReadKeyFile(path string) ([][]byte, error) { return keys.ReadFile(path) }

// NewKey draws a gossip key of 32 bytes from random and returns it as the line
// that ReadKeyFile reads, without a newline.
func NewKey(random io.Reader) (string, error) { return keys.Draw(random) }

// Fingerprint returns 16 hexadecimal digits that tell key from other keys and
// do not reveal it: two peers with the same ones have the same key. It may be
// shown and logged.
func Fingerprint(key []byte) string { return keys.Fingerprint(key) }

// Keys returns the keys in force, the one that encrypts first.
func (c *Cluster) Keys() []KeyInfo {
	var out []KeyInfo
	for _, k := range c.keys.Keys() {
		out = append(out, KeyInfo(k))
	}
	return out
}

// InstallKey lets every member decrypt with key. On a cluster without a key it
// is for this peer alone, must be done at each, and begins the switch to
// encryption: nobody is shut out, and it is complete when all have the key.
func (c *Cluster) InstallKey(ctx context.Context, key []byte) (KeyReport, error) {
	return keyReport(c.keys.Install(ctx, key))
}

// UseKey makes every member encrypt with the installed key of this fingerprint.
// The key that was used before stays for Config.KeyGrace. It fails with
// ErrPlainGossip, ErrSealing or ErrUnknownKey.
func (c *Cluster) UseKey(ctx context.Context, fingerprint string) (KeyReport, error) {
	return keyReport(c.keys.Use(ctx, fingerprint))
}

// RemoveKey makes every member forget the key of this fingerprint. A member
// that has no other is shut out. It fails with ErrPlainGossip, ErrSealing,
// ErrUnknownKey or ErrPrimaryKey.
func (c *Cluster) RemoveKey(ctx context.Context, fingerprint string) (KeyReport, error) {
	return keyReport(c.keys.Remove(ctx, fingerprint))
}

// Rotate makes every member encrypt with key, and decrypt with the one before
// for Config.KeyGrace, so that those that are absent can come back. A nil key
// is drawn. It may be repeated: members that did as told before do no more. It
// fails with ErrPlainGossip or ErrSealing.
func (c *Cluster) Rotate(ctx context.Context, key []byte) (KeyReport, error) {
	return keyReport(c.keys.Rotate(ctx, key))
}

// ListKeys asks every member which keys it has. Over plain gossip nobody is
// asked.
func (c *Cluster) ListKeys(ctx context.Context) (KeyReport, error) {
	return keyReport(c.keys.List(ctx))
}

func keyReport(r keys.Report, err error) (KeyReport, error) {
	out := KeyReport{Fingerprint: r.Fingerprint, Absent: r.Absent, Until: r.Until}
	for _, m := range r.Members {
		out.Members = append(out.Members, KeyOutcome(m))
	}
	return out, err
}
