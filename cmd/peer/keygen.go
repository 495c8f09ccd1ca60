package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"
)

func keygenVerb() *verb {
	return &verb{
		name:  "keygen",
		form:  "[-o FILE]",
		short: "a new key for the gossip between peers",
		long: `
Makes a random key of 32 bytes, in base64. Every peer of a cluster is given the
same one in a file that only its owner may read (--encrypt-file); without a key
the gossip can be read, and forged, by anybody on the network.

With -o the key is written to a new file of mode 0600 and not printed. A file
that exists is never overwritten.`,
		examples: `
			peer keygen -o /etc/peer/gossip.key`,
		group: groupSetup,
		flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the key to the new `FILE`"}},
		run: func(inv *invocation) error {
			key := make([]byte, 32)
			rand.Read(key) // never fails: the program would end instead
			line := base64.StdEncoding.EncodeToString(key) + "\n"
			if !inv.has("output") {
				_, err := fmt.Fprint(inv.stdout, line)
				return err
			}
			path := inv.flag("output")
			if path == "" {
				return inv.usage("the name of the file is empty")
			}
			if err := writeNew(path, line); err != nil {
				return err
			}
			inv.note("key written to %s; copy it to every peer and start them with --encrypt-file %s", path, path)
			return nil
		},
	}
}

// writeNew creates a file that only its owner may read. What was begun and not
// finished is removed: half a secret is none.
func writeNew(path, content string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is not overwritten; choose another name or remove it first", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}
