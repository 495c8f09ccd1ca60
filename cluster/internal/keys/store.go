package keys

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A peer that was started from a key file writes it anew when the keys change, so
// that it comes back with them. The file stays what ReadFile reads: how long
// an old key stays, and the epoch of the last change, are comments.

const (
	untilMark = "until "
	epochMark = "epoch "
)

// encodeKeys returns the content of a key file.
func encodeKeys(set *keySet, now time.Time) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Gossip keys, one a line: the first encrypts, all decrypt. Keep them secret.\n")
	fmt.Fprintf(&b, "# Written by peer at %s, %s%d\n", now.UTC().Format(time.RFC3339), epochMark, set.epoch)
	for _, k := range set.keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k.raw))
		if k.Old() {
			fmt.Fprintf(&b, " # %s%s", untilMark, k.until.UTC().Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// keyNotes reads the comments of a key file: when keys end, by fingerprint, and
// the epoch. What is no comment of ours is passed over.
func keyNotes(data []byte) (until map[string]time.Time, epoch uint64) {
	until = map[string]time.Time{}
	for line := range strings.Lines(string(data[:min(len(data), maxKeyFileBytes)])) {
		text, note, ok := strings.Cut(strings.TrimSpace(line), "#")
		if !ok {
			continue
		}
		if _, s, ok := strings.Cut(note, epochMark); ok && text == "" {
			if n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64); err == nil && n < 1<<62 {
				epoch = max(epoch, n)
			}
		}
		if _, s, ok := strings.Cut(note, untilMark); ok && text != "" {
			if at, err := time.Parse(time.RFC3339, strings.TrimSpace(s)); err == nil {
				if key, err := parseKey([]byte(strings.TrimSpace(text))); err == nil {
					until[Fingerprint(key)] = at
				}
			}
		}
	}
	return until, epoch
}

// firstKeys returns the set to start with: cfg's keys, and what the key file
// notes about them.
func firstKeys(cfg Config) (*keySet, error) {
	set := &keySet{}
	until := map[string]time.Time{}
	if cfg.File != "" && len(cfg.Keys) > 0 {
		if data, err := cfg.FS.ReadFile(cfg.File); err == nil {
			until, set.epoch = keyNotes(data)
		}
	}
	for i, raw := range cfg.Keys {
		k, err := newKey(raw)
		if err != nil {
			return nil, err
		}
		h := heldKey{Key: k}
		if i > 0 {
			h.until = until[k.fingerprint]
		}
		if set.find(k.fingerprint) < 0 {
			set.keys = append(set.keys, h)
		}
	}
	return set.at(cfg.Now()), nil
}

// save writes the key file, if there is one.
func (r *Keyring) save(set *keySet) error {
	if r.cfg.File == "" {
		return nil
	}
	path := r.cfg.File
	// What a link points to is replaced, not the link.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return r.cfg.FS.WriteFile(path, encodeKeys(set, r.cfg.Now()))
}
