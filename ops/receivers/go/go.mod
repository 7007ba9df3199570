module authio.example/actions

go 1.19
