import time
from trainables.training.checkpoint import FileCheckpointStore
def test_smoke(make_trainer, make_spec, finish, folder, make_data):
    t=time.time(); a=make_trainer(store=FileCheckpointStore(folder,1,make_spec().key)); 
    rows=finish(a); print(rows); print(a.result(), time.time()-t); print(a.predictions())
    spec=make_spec(kind="regression")
    b=make_trainer(spec=spec,on=make_data(spec.task)); print(finish(b)); print(b.result()); print(b.predictions())
