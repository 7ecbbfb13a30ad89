// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"testing"

	"sealift/suit"
)

var errPower = errors.New("the power failed")

// crashPlatform is a transaction over a memPlatform: what a run writes is staged, and commit switches to it in one step, as
// the contract of Platform asks. Every change of storage is an operation; at operation dieAt the power fails, and from then
// on everything does.
type crashPlatform struct {
	*memPlatform // the staged state
	live         *memPlatform
	ops, dieAt   int
}

func begin(live *memPlatform, dieAt int) *crashPlatform {
	staged := *live
	staged.components, staged.manifests = maps.Clone(live.components), maps.Clone(live.manifests)
	staged.sequences, staged.references = maps.Clone(live.sequences), maps.Clone(live.references)
	return &crashPlatform{memPlatform: &staged, live: live, dieAt: dieAt}
}

func (p *crashPlatform) op() error {
	if p.ops++; p.ops >= p.dieAt {
		return errPower
	}
	return nil
}

func (p *crashPlatform) Create(ctx context.Context, c suit.ComponentID) (Writer, error) {
	if err := p.op(); err != nil {
		return nil, err
	}
	w, err := p.memPlatform.Create(ctx, c)
	return &crashWriter{w, p}, err
}

func (p *crashPlatform) Remove(ctx context.Context, c suit.ComponentID) error {
	if err := p.op(); err != nil {
		return err
	}
	return p.memPlatform.Remove(ctx, c)
}

func (p *crashPlatform) Unlink(ctx context.Context, m, c suit.ComponentID) (int, error) {
	if err := p.op(); err != nil {
		return 0, err
	}
	return p.memPlatform.Unlink(ctx, m, c)
}

func (p *crashPlatform) Swap(ctx context.Context, a, b suit.ComponentID) error {
	if err := p.op(); err != nil {
		return err
	}
	return p.memPlatform.Swap(ctx, a, b)
}

// commitAll is the one step; the power may fail before or after it, not inside.
func (p *crashPlatform) commitAll(out *Outcome) error {
	if err := p.op(); err != nil {
		return err
	}
	p.memPlatform.commit(out)
	p.live.components, p.live.manifests = p.components, p.manifests
	p.live.sequences, p.live.references = p.sequences, p.references
	return p.op()
}

type crashWriter struct {
	Writer
	platform *crashPlatform
}

func (w *crashWriter) Write(b []byte) (int, error) {
	if err := w.platform.op(); err != nil {
		w.Writer.Write(b[:len(b)/2]) // half of it reached the disk
		return len(b) / 2, err
	}
	return w.Writer.Write(b)
}

func (w *crashWriter) Close() error {
	if err := w.platform.op(); err != nil {
		w.Writer.Abort()
		return err
	}
	return w.Writer.Close()
}

// TestPowerCut stops an installation at each single write: of one component, of a set, of a set that is swapped, of a
// manifest with its dependency, and of an uninstallation. Before the commit the old state is whole, after it the new one;
// the same manifest then installs from where it was stopped. (The Agent's own files are tested the same way in its package.)
func TestPowerCut(t *testing.T) {
	set := func(sequence uint64, texts ...string) *suit.Builder {
		b := &suit.Builder{Sequence: sequence, ComponentID: suit.NewComponentID("set")}
		for i, text := range texts {
			b.AddComponent(suit.NewComponentID("set", string(rune('a'+i))))
			b.Install = append(b.Install, suit.SetComponentIndex(i), content(text), suit.Write())
			b.Uninstall = append(b.Uninstall, suit.SetComponentIndex(i), suit.Unlink())
		}
		return b
	}
	swapped := set(2, "1", "2")
	swapped.Install = suit.Sequence{suit.SetComponentIndex(0), suit.Override(suit.Params{suit.ParamSource: 1}), suit.Swap()}
	device := ownDevice()
	info, ciphertext := encrypted(t, device, 1, []byte("records"))
	oldTA, newTA := sign(t, taBuilder(1, []byte("old"))), sign(t, taBuilder(2, []byte("new")))
	withDependency := pdBuilder(info, ciphertext, manifestDigest(t, newTA))
	withDependency.Payloads["#dep"] = newTA
	dep := withDependency.Dependencies[0].Index
	withDependency.DependencyResolution = suit.Sequence{
		suit.SetComponentIndex(dep), suit.Override(suit.Params{suit.ParamURI: "#dep", suit.ParamDigest: manifestDigest(t, newTA)}),
		suit.Fetch(), suit.DependencyIntegrity(), suit.ProcessDependency(),
	}
	type run func(*Processor, context.Context, []byte) (*Outcome, error)
	for _, c := range []struct {
		name     string
		before   []byte
		envelope []byte
		run      run
	}{
		{"single component", oldTA, newTA, (*Processor).Update},
		{"first installation", nil, newTA, (*Processor).Update},
		{"component set", sign(t, set(1, "1", "2", "3")), sign(t, set(2, "one", "two", "three")), (*Processor).Update},
		{"swap", sign(t, set(1, "1", "2")), sign(t, swapped), (*Processor).Update},
		{"dependency", oldTA, sign(t, withDependency), (*Processor).Update},
		{"uninstallation", sign(t, set(1, "1", "2", "3")), sign(t, set(1, "1", "2", "3")), (*Processor).Uninstall},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := func() *memPlatform {
				live := ownDevice()
				live.keys = device.keys
				if c.before != nil {
					tx := begin(live, 1<<30)
					out, err := New(tx, ownOptions()).Update(t.Context(), c.before)
					if err != nil || tx.commitAll(out) != nil {
						t.Fatal(err)
					}
					for id := range live.references {
						live.references[id] = 1
					}
				}
				return live
			}
			attempt := func(live *memPlatform, dieAt int) error {
				tx := begin(live, dieAt)
				out, err := c.run(New(tx, ownOptions()), t.Context(), c.envelope)
				if err != nil {
					return err
				}
				if len(out.Unlinked) > 0 && c.name == "uninstallation" {
					out.Manifests = nil // nothing is installed
				}
				return tx.commitAll(out)
			}
			goal := start()
			if err := attempt(goal, 1<<30); err != nil {
				t.Fatal(err)
			}
			for dieAt := 1; ; dieAt++ {
				live := start()
				old := maps.Clone(live.components)
				err := attempt(live, dieAt)
				if err == nil {
					t.Logf("%d operations", dieAt-1)
					return
				}
				if !errors.Is(err, errPower) {
					t.Fatalf("operation %d: %v", dieAt, err)
				}
				isOld, isNew := reflect.DeepEqual(live.components, old), reflect.DeepEqual(live.components, goal.components)
				if !isOld && !isNew {
					t.Fatalf("operation %d: a mixture: %q", dieAt, live.components)
				}
				if isOld && !isNew {
					if err := attempt(live, 1<<30); err != nil || !reflect.DeepEqual(live.components, goal.components) {
						t.Fatalf("operation %d: again: %v, %q", dieAt, err, live.components)
					}
				}
			}
		})
	}
}
