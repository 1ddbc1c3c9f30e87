module envfarm.dev/boxd

go 1.24
