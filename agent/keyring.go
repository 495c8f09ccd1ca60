package agent

import (
	"context"
	"errors"
	"net/http"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
)

// Keyring asks every member which gossip keys it has.
func (a *Agent) Keyring(ctx context.Context) (api.Keyring, error) {
	r, err := a.cluster.ListKeys(ctx)
	return a.keyringOf(r), keyProblem(err)
}

// ChangeKeyring changes the gossip keys of every member.
func (a *Agent) ChangeKeyring(ctx context.Context, q api.KeyringRequest) (api.Keyring, error) {
	key, err := q.RawKey()
	if err != nil {
		// Not the error: it could quote the key.
		return api.Keyring{}, api.NewProblem(http.StatusBadRequest, api.KindBadRequest, "key is not base64", "send a line that peer keygen prints")
	}
	var r cluster.KeyReport
	switch q.Op {
	case "rotate":
		r, err = a.cluster.Rotate(ctx, key)
	case "install":
		r, err = a.cluster.InstallKey(ctx, key)
	case "use":
		r, err = a.cluster.UseKey(ctx, q.Fingerprint)
	case "remove":
		r, err = a.cluster.RemoveKey(ctx, q.Fingerprint)
	default:
		return api.Keyring{}, api.NewProblem(http.StatusBadRequest, api.KindBadRequest, "op is none of rotate, install, use, remove", "see /openapi.json for the shape")
	}
	if failed := r.Err(); err == nil && failed != nil {
		a.logger.Warn("not every member changed its gossip keys", "key", r.Fingerprint, "err", failed)
	}
	return a.keyringOf(r), keyProblem(err)
}

// keyProblem is err as it is sent.
func keyProblem(err error) error {
	fix := "see `peer keyring list`"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrUnknownKey):
		return api.NewProblem(http.StatusNotFound, "no-such-key", err.Error(), fix)
	case errors.Is(err, cluster.ErrPlainGossip):
		fix = "make a key with `peer keygen -o FILE`, copy the file to every host, name it as encrypt_file in each peer.yaml, and run there: peer keyring install FILE"
	case errors.Is(err, cluster.ErrPrimaryKey):
		fix = "peer keyring rotate makes another one the one that encrypts"
	}
	return api.NewProblem(http.StatusConflict, "keys-not-changed", err.Error(), fix)
}

func (a *Agent) keyringOf(r cluster.KeyReport) api.Keyring {
	k := api.Keyring{Schema: api.SchemaKeyring, Encrypted: a.cluster.Stats().Encrypted, Fingerprint: r.Fingerprint, Absent: r.Absent}
	for _, i := range a.cluster.Keys() {
		x := api.KeyringKey{Fingerprint: i.Fingerprint, Primary: i.Primary}
		if !i.Until.IsZero() {
			until := i.Until.UTC()
			x.Until = &until
		}
		k.Keys = append(k.Keys, x)
	}
	for _, m := range r.Members {
		x := api.KeyringMember{Name: m.Name, Addr: m.Addr.String(), Keys: m.Keys, Note: m.Note}
		if m.Err != nil {
			x.Error = m.Err.Error()
		}
		k.Members = append(k.Members, x)
	}
	if !r.Until.IsZero() {
		until := r.Until.UTC()
		k.Until = &until
	}
	return k
}
