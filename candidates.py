"""The project's own kinds of model, beside those that come with loopbook.

Each public function here is a candidate. It takes the contract and a random
seed, and returns an estimator of scikit-learn that is not fitted, such as:

    from sklearn.ensemble import GradientBoostingRegressor

    from loopbook.models import steps


    def gradient_boosting(contract, random_seed):
        '''Three hundred trees of depth four, each correcting those before it.'''
        trees = GradientBoostingRegressor(
            n_estimators=300, max_depth=4, random_state=random_seed
        )
        return steps.pipeline(contract, trees, steps.median(), steps.one_hot())

Add its name at the end of `names` in pipeline.yaml and type `loopbook build`.
docs/how-to.md has an example from this file to the champion's table,
docs/candidates.md lists the steps that convert to ONNX.
"""
