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

// build makes them, as one builds for a release: serf from its module, ours from
// the module that this one replaces, with the versions of its own go.mod. peer
// names one that was built before, commit one to build instead of the tree as
// it is.
func build(ctx context.Context, dir, peer, commit string) (binaries, error) {
	b := binaries{ours: peer, serf: filepath.Join(dir, "serf"), bare: filepath.Join(dir, "bare")}
	root, err := command(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return b, fmt.Errorf("find the source of peer (run this in testcluster/versus): %w", err)
	}
	if b.serfVersion, err = command(ctx, "go", "list", "-m", "-f", "{{.Version}}", serfModule); err != nil {
		return b, err
	}
	if err := goBuild(ctx, ".", b.serf, serfModule+"/cmd/serf"); err != nil {
		return b, err
	}
	if err := goBuild(ctx, ".", b.bare, module+"/testcluster/versus/bare"); err != nil {
		return b, err
	}
	if peer != "" {
		b.revision = filepath.Base(peer)
		return b, nil
	}
	b.ours = filepath.Join(dir, "peer")
	if commit != "" {
		source := filepath.Join(dir, "source")
		if b.revision, err = checkOut(ctx, root, commit, source); err != nil {
			return b, err
		}
		return b, goBuild(ctx, source, b.ours, "./cmd/peer")
	}
	if b.revision, err = command(ctx, "git", "-C", root, "describe", "--always", "--dirty", "--abbrev=8"); err != nil {
		b.revision = "unknown revision"
	}
	return b, goBuild(ctx, root, b.ours, "./cmd/peer")
}

// goBuild builds pkg from the module at dir into file.
func goBuild(ctx context.Context, dir, file, pkg string) error {
	_, err := command(ctx, "go", "build", "-C", dir, "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	return err
}

// checkOut writes the files of a commit of the repository at root to dir and
// returns the commit's short name. It leaves the repository's own tree alone.
func checkOut(ctx context.Context, root, commit, dir string) (string, error) {
	name, err := command(ctx, "git", "-C", root, "rev-parse", "--short=8", commit+"^{commit}")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	tar := filepath.Join(dir, "source.tar")
	if _, err := command(ctx, "git", "-C", root, "archive", "-o", tar, name); err != nil {
		return "", err
	}
	_, err = command(ctx, "tar", "-x", "-C", dir, "-f", tar)
	return name, err
}

// command runs a program and returns what it prints.
func command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
