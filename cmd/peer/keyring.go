package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
)

func keyringVerb() *verb {
	return &verb{
		name:  "keyring",
		form:  "list|rotate|install|use|remove …",
		short: "the keys that gossip is encrypted with",
		long: `
Shows and changes the gossip keys of the whole cluster while it runs. Keys are
named by their fingerprints; the keys themselves are never shown.`,
		examples: `
			# who has which key
			peer keyring list
			# a new key for everybody, the old one good for three more days
			peer keyring rotate`,
		exits: []int{exitNo, exitUnavailable, exitRefused},
		group: groupSetup,
		verbs: []*verb{keyringListVerb(), keyringRotateVerb(), keyringInstallVerb(), keyringUseVerb(), keyringRemoveVerb()},
	}
}

func keyringListVerb() *verb {
	return &verb{
		name:  "list",
		form:  "[-o FORMAT] [--addr ADDR]",
		short: "which keys every member has",
		long: `
Asks every member for the fingerprints of its gossip keys. The first one
encrypts. With -o json it is the body of GET /v1/keyring, unchanged.`,
		examples: `
			peer keyring list`,
		exits: []int{exitUnavailable, exitRefused},
		flags: clientFlags(outputFlag()),
		run: func(inv *invocation) error {
			f, err := inv.format()
			if err != nil {
				return err
			}
			c, err := inv.client()
			if err != nil {
				return err
			}
			body, err := c.Raw(inv, http.MethodGet, "/v1/keyring", nil, nil)
			if err != nil {
				return err
			}
			return inv.printKeyring(f, body)
		},
	}
}

func keyringRotateVerb() *verb {
	return &verb{
		name:  "rotate",
		form:  "[-o FORMAT] [--addr ADDR] [FILE]",
		short: "a new key for everybody",
		long: `
Makes every member encrypt with a new key: the first one in FILE, or on standard
input when FILE is -, or else one that the agent draws. Each writes its own key
file anew. The key that was used before is good for decrypting for 72 more
hours (key_grace in peer.yaml): members that are absent now come back with it,
and are given the new one by whoever they talk to. They are named. It may be
repeated with the same FILE.`,
		examples: `
			peer keyring rotate`,
		exits: []int{exitUnavailable, exitRefused},
		flags: clientFlags(outputFlag()),
		max:   1,
		run: func(inv *invocation) error {
			q := api.KeyringRequest{Op: "rotate"}
			if len(inv.args) == 1 {
				var err error
				if q.Key, err = inv.readKey(inv.args[0]); err != nil {
					return err
				}
			}
			return inv.changeKeyring(q)
		},
	}
}

func keyringInstallVerb() *verb {
	return &verb{
		name:  "install",
		form:  "[-o FORMAT] [--addr ADDR] FILE",
		short: "let every member decrypt with a key; or begin to encrypt",
		long: `
Lets every member decrypt with the first key in FILE (- is standard input).

In a cluster without a key it is for this agent alone, and begins the switch to
encryption, which shuts nobody out: run it at every host, with one and the same
FILE, and name that as encrypt_file in each peer.yaml. When the last member has
the key all of them encrypt, and then refuse plain text. Nobody should be
restarted in between; peer status tells who is waited for.`,
		examples: `
			peer keyring install /etc/peer/gossip.key`,
		exits: []int{exitUnavailable, exitRefused},
		flags: clientFlags(outputFlag()),
		min:   1, max: 1,
		run: func(inv *invocation) error {
			key, err := inv.readKey(inv.args[0])
			if err != nil {
				return err
			}
			return inv.changeKeyring(api.KeyringRequest{Op: "install", Key: key})
		},
	}
}

func keyringUseVerb() *verb {
	return &verb{
		name:  "use",
		form:  "[-o FORMAT] [--addr ADDR] FINGERPRINT",
		short: "make every member encrypt with an installed key",
		long: `
Makes every member encrypt with the installed key of this fingerprint. The key
that was used before is good for decrypting for 72 more hours (key_grace).`,
		examples: `
			peer keyring use 3f2a90d1c4b5e677`,
		exits: []int{exitUnavailable, exitRefused},
		flags: clientFlags(outputFlag()),
		min:   1, max: 1,
		run: func(inv *invocation) error {
			return inv.changeKeyring(api.KeyringRequest{Op: "use", Fingerprint: inv.args[0]})
		},
	}
}

func keyringRemoveVerb() *verb {
	return &verb{
		name:  "remove",
		form:  "[-o FORMAT] [--addr ADDR] FINGERPRINT",
		short: "make every member forget a key",
		long: `
Makes every member forget the key of this fingerprint at once. Members that are
absent and have no other key cannot come back. The key that encrypts is refused.`,
		examples: `
			peer keyring remove 3f2a90d1c4b5e677`,
		exits: []int{exitUnavailable, exitRefused},
		flags: clientFlags(outputFlag()),
		min:   1, max: 1,
		run: func(inv *invocation) error {
			return inv.changeKeyring(api.KeyringRequest{Op: "remove", Fingerprint: inv.args[0]})
		},
	}
}

// readKey returns the first key in a file that only its owner may read, or on
// standard input, in base64.
func (inv *invocation) readKey(path string) (string, error) {
	if path != "-" {
		keys, err := cluster.ReadKeyFile(path)
		if err != nil {
			return "", withCode(exitConfig, err)
		}
		return base64.StdEncoding.EncodeToString(keys[0]), nil
	}
	b, err := io.ReadAll(io.LimitReader(inv.stdin, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read the key from standard input: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if key, err := base64.StdEncoding.Strict().DecodeString(line); err != nil || !slices.Contains([]int{16, 24, 32}, len(key)) {
			break
		}
		return line, nil
	}
	return "", withCode(exitConfig, fmt.Errorf("no gossip key on standard input: give the line that peer keygen prints"))
}

// changeKeyring asks for a change and prints what each member did.
func (inv *invocation) changeKeyring(q api.KeyringRequest) error {
	f, err := inv.format()
	if err != nil {
		return err
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	answer, err := c.Raw(inv, http.MethodPost, "/v1/keyring", nil, body)
	if err != nil {
		return err
	}
	return inv.printKeyring(f, answer)
}

// printKeyring prints who has which key. A member that did not do as told makes
// it end with 1.
func (inv *invocation) printKeyring(f format, body []byte) error {
	var k api.Keyring
	if err := json.Unmarshal(body, &k); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	var names []string
	failed := 0
	for _, m := range k.Members {
		names = append(names, m.Name)
		if m.Error != "" {
			failed++
		}
	}
	err := inv.print(f, document{
		body: body, items: "members", names: names,
		table: func(t *table, wide bool) {
			t.header("NAME", "ENCRYPTS WITH", "ALSO DECRYPTS", "NOTE")
			for _, m := range k.Members {
				first, others := "plain text", ""
				if len(m.Keys) > 0 {
					first, others = m.Keys[0], strings.Join(m.Keys[1:], " ")
				}
				if m.Error != "" && len(m.Keys) == 0 {
					first = "?"
				}
				note := m.Note
				if m.Error != "" {
					note = "failed: " + m.Error
				}
				t.add(styleNone, m.Name, first, others, note)
			}
		},
	})
	if err != nil {
		return err
	}
	switch {
	case len(k.Keys) > 0 && !k.Encrypted && len(k.Absent) > 0:
		inv.note("gossip is not encrypted yet; the key is missing at: %s", strings.Join(k.Absent, ", "))
	case len(k.Keys) == 0:
		inv.note("gossip is not encrypted; see peer keyring install --help")
	case len(k.Absent) > 0 && k.Until != nil:
		inv.note("absent, and let in with the old key until %s: %s", k.Until.Format("2006-01-02 15:04 MST"), strings.Join(k.Absent, ", "))
	case len(k.Absent) > 0:
		inv.note("absent, and not asked: %s", strings.Join(k.Absent, ", "))
	}
	if failed > 0 {
		inv.note("%d of %d members did not do as told", failed, len(k.Members))
		return withCode(exitError, nil)
	}
	return nil
}
