//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	module     = "github.com/peerhq/peer"
	serfModule = "github.com/hashicorp/serf"
)

// binaries are the programs that are measured.
type binaries struct {
	ours, serf, bare string
	revision         string // of ours
	serfVersion      string
}

// build makes them: serf from its module, ours from the module that this one
// replaces, with the versions of its own go.mod. peer and revision name one
// that was built before.
func build(ctx context.Context, dir, peer string) (binaries, error) {
	b := binaries{ours: peer, serf: filepath.Join(dir, "serf"), bare: filepath.Join(dir, "bare")}
	root, err := command(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return b, fmt.Errorf("find the source of peer (run this in testcluster/versus): %w", err)
	}
	if b.serfVersion, err = command(ctx, "go", "list", "-m", "-f", "{{.Version}}", serfModule); err != nil {
		return b, err
	}
	if _, err := command(ctx, "go", "build", "-o", b.serf, serfModule+"/cmd/serf"); err != nil {
		return b, err
	}
	if _, err := command(ctx, "go", "build", "-o", b.bare, module+"/testcluster/versus/bare"); err != nil {
		return b, err
	}
	if peer != "" {
		b.revision = filepath.Base(peer)
		return b, nil
	}
	b.ours = filepath.Join(dir, "peer")
	if b.revision, err = command(ctx, "git", "-C", root, "describe", "--always", "--dirty", "--abbrev=8"); err != nil {
		b.revision = "unknown revision"
	}
	if _, err := command(ctx, "go", "build", "-C", root, "-o", b.ours, "./cmd/peer"); err != nil {
		return b, err
	}
	return b, nil
}

// command runs a program and returns what it prints.
func command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
