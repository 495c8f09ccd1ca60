package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"
)

// SchemaKeyring marks a Keyring.
const SchemaKeyring = "peer.keyring/v1"

// Keyring is GET and POST /v1/keyring: the gossip keys of every member. A key
// itself is never in it.
type Keyring struct {
	Schema string `json:"schema"`
	// Encrypted says whether all gossip is; with keys and without it the cluster
	// is being switched.
	Encrypted   bool            `json:"encrypted"`
	Fingerprint string          `json:"fingerprint,omitempty"` // of the key that was changed, or that encrypts
	Keys        []KeyringKey    `json:"keys"`                  // of this agent, the one that encrypts first
	Members     []KeyringMember `json:"members"`               // by name
	// Absent are known and were not there. After a rotation they are let in with
	// the old key until Until.
	Absent []string   `json:"absent"`
	Until  *time.Time `json:"until,omitempty"`
}

// KeyringKey is one key that an agent holds.
type KeyringKey struct {
	Fingerprint string     `json:"fingerprint"`
	Primary     bool       `json:"primary"`         // it encrypts
	Until       *time.Time `json:"until,omitempty"` // an old one goes then
}

// KeyringMember is what one member answered.
type KeyringMember struct {
	Name  string   `json:"name"`
	Addr  string   `json:"addr"`
	Keys  []string `json:"keys"`            // fingerprints, its primary first
	Note  string   `json:"note,omitempty"`  // it did as told, but needs a human
	Error string   `json:"error,omitempty"` // it did not
}

// KeyringRequest is the body of POST /v1/keyring.
type KeyringRequest struct {
	Op          string `json:"op"`                    // rotate, install, use or remove
	Key         string `json:"key,omitempty"`         // base64, for rotate and install; rotate draws one without
	Fingerprint string `json:"fingerprint,omitempty"` // for use and remove
}

// Keyring asks which keys each member has.
func (c *Client) Keyring(ctx context.Context) (Keyring, error) {
	return get[Keyring](ctx, c, "/v1/keyring", nil, 0)
}

// ChangeKeyring has every member change its gossip keys. Those that did not are
// in the answer, which is no error.
func (c *Client) ChangeKeyring(ctx context.Context, r KeyringRequest) (Keyring, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return Keyring{}, err
	}
	answer, err := c.Raw(ctx, http.MethodPost, "/v1/keyring", nil, body)
	if err != nil {
		return Keyring{}, err
	}
	var k Keyring
	return k, json.Unmarshal(answer, &k)
}

// RawKey returns the bytes of Key, nil when there is none.
func (r KeyringRequest) RawKey() ([]byte, error) {
	if r.Key == "" {
		return nil, nil
	}
	return base64.StdEncoding.Strict().DecodeString(r.Key)
}
